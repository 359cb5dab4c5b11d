//! Parquet files: record batches as rows of JSON values.

use std::fs::File;
use std::path::{Path, PathBuf};

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Date64Type, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
    UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, RecordBatch, downcast_dictionary_array};
use arrow_schema::{DataType, TimeUnit};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use serde_json::{Map, Value};

use super::{RawRow, RowOptions, Source};
use crate::files::read_error;
use crate::{DataError, Result};

/// Rows that are decoded at a time.
const BATCH: usize = 256;

/// Columns that a model reads, or that say which row it is.
const SCHEMA: [&str; 9] =
    ["id", "text", "input_ids", "completion_start", "prompt", "completion", "features", "label", "target"];

pub(super) struct Table {
    path: PathBuf,
    reader: ParquetRecordBatchReader,
    batch: Option<RecordBatch>,
    at: usize,
    rows: u64,
}

impl Table {
    /// Refuses columns of the schema of rows whose type cannot be read.
    pub(super) fn open(path: &Path, options: &RowOptions) -> Result<Self> {
        let label = options.corpus.label.as_deref();
        Self::with(path, |column| SCHEMA.contains(&column) || label == Some(column))
    }

    /// Leaves out what cannot be read.
    pub(super) fn open_all(path: &Path) -> Result<Self> {
        Self::with(path, |_| false)
    }

    fn with(path: &Path, is_needed: impl Fn(&str) -> bool) -> Result<Self> {
        let broken = |source| DataError::Parquet { file: path.to_path_buf(), source };
        let file = File::open(path).map_err(|source| read_error(path, source))?;
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(broken)?;
        let mut kept = Vec::new();
        for (i, field) in builder.schema().fields().iter().enumerate() {
            let name = field.name();
            if is_readable(field.data_type()) {
                kept.push(i);
            } else if is_needed(name) {
                let got = field.data_type().to_string();
                return Err(DataError::ColumnType { file: path.to_path_buf(), column: name.clone(), got });
            }
        }
        let mask = ProjectionMask::roots(builder.parquet_schema(), kept);
        let reader = builder.with_projection(mask).with_batch_size(BATCH).build().map_err(broken)?;
        Ok(Self { path: path.to_path_buf(), reader, batch: None, at: 0, rows: 0 })
    }
}

impl Source for Table {
    fn next_row(&mut self) -> Result<Option<(u64, RawRow)>> {
        loop {
            if let Some(batch) = &self.batch
                && self.at < batch.num_rows()
            {
                let row = object(batch, self.at);
                self.at += 1;
                self.rows += 1;
                return Ok(Some((self.rows, RawRow::Object(row))));
            }
            match self.reader.next() {
                None => return Ok(None),
                Some(Ok(batch)) => (self.batch, self.at) = (Some(batch), 0),
                Some(Err(source)) => {
                    return Err(DataError::Parquet { file: self.path.clone(), source: source.into() });
                }
            }
        }
    }
}

fn object(batch: &RecordBatch, row: usize) -> Map<String, Value> {
    let schema = batch.schema_ref();
    let columns = schema.fields().iter().zip(batch.columns());
    columns.map(|(field, column)| (field.name().clone(), value(column.as_ref(), row))).collect()
}

fn is_readable(data_type: &DataType) -> bool {
    match data_type {
        DataType::List(of) | DataType::LargeList(of) | DataType::FixedSizeList(of, _) => is_readable(of.data_type()),
        DataType::Struct(fields) => fields.iter().all(|field| is_readable(field.data_type())),
        DataType::Dictionary(_, of) => is_readable(of),
        DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 => true,
        DataType::Null | DataType::Boolean | DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        other => other.is_integer() || other.is_floating(),
    }
}

/// One value of a column; null for what [`is_readable`] refuses, and for numbers that are not finite.
fn value(column: &dyn Array, row: usize) -> Value {
    if column.is_null(row) {
        return Value::Null;
    }
    match column.data_type() {
        DataType::Boolean => column.as_boolean().value(row).into(),
        DataType::Utf8 => column.as_string::<i32>().value(row).into(),
        DataType::LargeUtf8 => column.as_string::<i64>().value(row).into(),
        DataType::Utf8View => column.as_string_view().value(row).into(),
        DataType::List(_) => list(column.as_list::<i32>().value(row).as_ref()),
        DataType::LargeList(_) => list(column.as_list::<i64>().value(row).as_ref()),
        DataType::FixedSizeList(..) => list(column.as_fixed_size_list().value(row).as_ref()),
        DataType::Struct(fields) => {
            let columns = fields.iter().zip(column.as_struct().columns());
            Value::Object(columns.map(|(field, column)| (field.name().clone(), value(column.as_ref(), row))).collect())
        }
        DataType::Dictionary(..) => downcast_dictionary_array!(
            column => column.key(row).map_or(Value::Null, |key| value(column.values().as_ref(), key)),
            _ => Value::Null
        ),
        DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 => time(column, row),
        _ => numeric(column, row),
    }
}

fn list(values: &dyn Array) -> Value {
    (0..values.len()).map(|i| value(values, i)).collect()
}

fn numeric(column: &dyn Array, row: usize) -> Value {
    fn get<T: ArrowPrimitiveType>(column: &dyn Array, row: usize) -> T::Native {
        column.as_primitive::<T>().value(row)
    }
    match column.data_type() {
        DataType::Int8 => get::<Int8Type>(column, row).into(),
        DataType::Int16 => get::<Int16Type>(column, row).into(),
        DataType::Int32 => get::<Int32Type>(column, row).into(),
        DataType::Int64 => get::<Int64Type>(column, row).into(),
        DataType::UInt8 => get::<UInt8Type>(column, row).into(),
        DataType::UInt16 => get::<UInt16Type>(column, row).into(),
        DataType::UInt32 => get::<UInt32Type>(column, row).into(),
        DataType::UInt64 => get::<UInt64Type>(column, row).into(),
        DataType::Float16 => get::<Float16Type>(column, row).to_f64().into(),
        DataType::Float32 => f64::from(get::<Float32Type>(column, row)).into(),
        DataType::Float64 => get::<Float64Type>(column, row).into(),
        _ => Value::Null,
    }
}

/// A date or time as ISO 8601 text, in UTC.
fn time(column: &dyn Array, row: usize) -> Value {
    macro_rules! date {
        ($kind:ty) => {
            column.as_primitive::<$kind>().value_as_date(row).map(|date| date.to_string())
        };
    }
    macro_rules! moment {
        ($kind:ty) => {
            column.as_primitive::<$kind>().value_as_datetime(row).map(|time| time.to_string().replace(' ', "T"))
        };
    }
    let text = match column.data_type() {
        DataType::Date32 => date!(Date32Type),
        DataType::Date64 => date!(Date64Type),
        DataType::Timestamp(TimeUnit::Second, _) => moment!(TimestampSecondType),
        DataType::Timestamp(TimeUnit::Millisecond, _) => moment!(TimestampMillisecondType),
        DataType::Timestamp(TimeUnit::Microsecond, _) => moment!(TimestampMicrosecondType),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => moment!(TimestampNanosecondType),
        _ => None,
    };
    text.map_or(Value::Null, Value::from)
}
