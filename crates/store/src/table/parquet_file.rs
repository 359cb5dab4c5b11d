//! One parquet file, written atomically or read in batches.

use std::fs::File;
use std::path::{Path, PathBuf};

use arrow_array::RecordBatch;
use arrow_schema::{ArrowError, DataType, Schema, SchemaRef};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use crate::atomic::AtomicFile;
use crate::error::{Result, StoreError};

/// Most rows of a row group.
const GROUP_ROWS: usize = 1 << 16;
/// Most values of a row group, which bounds the writer's memory for tables of many columns (256 MiB of floats).
const GROUP_VALUES: usize = 1 << 26;

/// A parquet file in the making, zstd-compressed.
pub(super) struct ParquetWriter {
    path: PathBuf,
    writer: ArrowWriter<AtomicFile>,
}

impl ParquetWriter {
    pub(super) fn create(path: &Path, schema: SchemaRef) -> Result<Self> {
        let file = AtomicFile::create(path)?;
        let writer = properties(&schema).and_then(|p| ArrowWriter::try_new(file, schema, Some(p)));
        let writer = writer.map_err(|e| StoreError::parquet("writing", path, e))?;
        Ok(Self { path: path.to_owned(), writer })
    }

    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.writer.write(batch).map_err(|e| StoreError::parquet("writing", &self.path, e))
    }

    pub(super) fn finish(self) -> Result<()> {
        self.writer.into_inner().map_err(|e| StoreError::parquet("writing", &self.path, e))?.commit()
    }
}

fn properties(schema: &Schema) -> Result<WriterProperties, ParquetError> {
    let group_rows = (GROUP_VALUES / schema.fields().len().max(1)).clamp(1 << 10, GROUP_ROWS);
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
        .set_max_row_group_row_count(Some(group_rows))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_dictionary_enabled(false);
    // Scores hardly repeat, text does: layers, tokens, runs.
    for field in schema.fields().iter().filter(|f| f.data_type() == &DataType::Utf8) {
        properties = properties.set_column_dictionary_enabled(ColumnPath::from(field.name().as_str()), true);
    }
    Ok(properties.build())
}

/// The columns of a file and its number of rows.
pub(super) fn describe(path: &Path) -> Result<(SchemaRef, u64)> {
    let reader = open(path)?;
    let rows = reader.metadata().file_metadata().num_rows();
    Ok((reader.schema().clone(), u64::try_from(rows).unwrap_or(0)))
}

/// The rows of a file, at most `rows` at a time; of all columns, or of the one named.
pub(super) fn batches(
    path: &Path,
    rows: usize,
    column: Option<&str>,
) -> Result<impl Iterator<Item = Result<RecordBatch>> + use<>> {
    let mut reader = open(path)?.with_batch_size(rows.max(1));
    if let Some(column) = column {
        let roots = reader.schema().fields().iter().position(|f| f.name() == column);
        let mask = ProjectionMask::roots(reader.parquet_schema(), roots);
        reader = reader.with_projection(mask);
    }
    let reader = reader.build().map_err(|e| StoreError::parquet("reading", path, e))?;
    let path = path.to_owned();
    Ok(reader.map(move |batch| batch.map_err(|e| arrow_error("reading", &path, e))))
}

pub(super) fn arrow_error(action: &'static str, path: &Path, source: ArrowError) -> StoreError {
    StoreError::parquet(action, path, ParquetError::from(source))
}

fn open(path: &Path) -> Result<ParquetRecordBatchReaderBuilder<File>> {
    let file = File::open(path).map_err(|e| StoreError::io("reading", path, e))?;
    ParquetRecordBatchReaderBuilder::try_new(file).map_err(|e| StoreError::parquet("reading", path, e))
}
