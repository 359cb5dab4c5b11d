//! Tables of named columns that are no train examples: logs, ground truth.

use std::path::Path;

use csv::StringRecord;
use serde_json::{Map, Value};

use super::{RawRow, Source, lines, parquet};
use crate::files::{format_of, open};
use crate::{DataError, Format, Place, Result, RowProblem};

/// Between ids in a field of csv.
const SEPARATOR: char = ';';

/// A row of a table.
#[derive(Clone, PartialEq, Debug)]
pub struct TableRow {
    /// Where it is.
    pub place: Place,
    /// Its columns by name. Fields of csv are strings, empty ones null; numbers of parquet that are not finite are null.
    pub columns: Map<String, Value>,
}

/// The rows of a table, one after the other.
pub type TableRows = Box<dyn Iterator<Item = Result<TableRow>>>;

/// Whether the name of a file says that [`read_table`] can read it.
pub fn is_table(path: &Path) -> bool {
    matches!(format_of(path), Some(Format::Jsonl | Format::Csv | Format::Parquet))
}

/// The rows of a jsonl, csv or parquet file (by its name; also .gz and .zst). Columns of parquet whose types no JSON has are left
/// out.
///
/// # Errors
/// A file that cannot be read, of another format, or without a header; later, rows that are broken, each with its place.
pub fn read_table(path: &Path) -> Result<TableRows> {
    match format_of(path) {
        Some(Format::Jsonl) => Ok(rows(path, lines::Lines::open(path, RawRow::Json)?)),
        Some(Format::Parquet) => Ok(rows(path, parquet::Table::open_all(path)?)),
        Some(Format::Csv) => records(path),
        Some(Format::Text | Format::Idx) | None => Err(DataError::NoTable { file: path.to_path_buf() }),
    }
}

fn rows(path: &Path, mut source: impl Source + 'static) -> TableRows {
    let file = path.to_path_buf();
    Box::new(std::iter::from_fn(move || {
        let (line, row) = match source.next_row().transpose()? {
            Ok((line, row)) => (line, row),
            Err(error) => return Some(Err(error)),
        };
        let place = Place { file: file.clone(), line };
        Some(match row {
            RawRow::Json(line) => match serde_json::from_slice(&line) {
                Ok(columns) => Ok(TableRow { place, columns }),
                Err(e) => Err(DataError::TableRow { place, problem: RowProblem::Json(e) }),
            },
            RawRow::Object(columns) => Ok(TableRow { place, columns }),
            RawRow::Text(_) | RawRow::Image { .. } | RawRow::Record(..) => Ok(TableRow { place, columns: Map::new() }),
        })
    }))
}

fn records(path: &Path) -> Result<TableRows> {
    let file = path.to_path_buf();
    let mut reader = csv::ReaderBuilder::new().flexible(true).trim(csv::Trim::All).from_reader(open(path)?);
    let broken = |source| DataError::Csv { file: path.to_path_buf(), source };
    let header = reader.headers().map_err(broken)?.clone();
    Ok(Box::new(reader.into_records().map(move |record| {
        let record: StringRecord = record.map_err(|source| DataError::Csv { file: file.clone(), source })?;
        let place = Place { file: file.clone(), line: record.position().map_or(0, csv::Position::line) };
        if record.len() != header.len() {
            let problem = RowProblem::FieldCount { expected: header.len(), got: record.len() };
            return Err(DataError::TableRow { place, problem });
        }
        let value = |text: &str| if text.is_empty() { Value::Null } else { text.into() };
        let columns = header.iter().zip(&record).map(|(name, text)| (name.to_owned(), value(text))).collect();
        Ok(TableRow { place, columns })
    })))
}

impl TableRow {
    /// Whether there is such a column, with or without a value.
    pub fn has(&self, column: &str) -> bool {
        self.columns.contains_key(column)
    }

    /// A string or whole number.
    ///
    /// # Errors
    /// Without such a column or value.
    pub fn id(&self, column: &str) -> Result<String> {
        let value = self.value(column)?;
        id(value).map_or_else(|| self.unlike(column, "an id: a string or a whole number", value), Ok)
    }

    /// A list of ids, in csv with semicolons between; empty where there is no value.
    ///
    /// # Errors
    /// Without such a column, and what is no list of ids.
    pub fn ids(&self, column: &str) -> Result<Vec<String>> {
        if matches!(self.columns.get(column), Some(Value::Null)) {
            return Ok(Vec::new());
        }
        let value = self.value(column)?;
        let list = match value {
            Value::String(text) => Some(text.split(SEPARATOR).map(|id| id.trim().to_owned()).collect::<Vec<_>>()),
            Value::Array(ids) => ids.iter().map(id).collect(),
            other => id(other).map(|id| vec![id]),
        };
        match list {
            Some(ids) if ids.iter().all(|id| !id.is_empty()) => Ok(ids),
            _ => self.unlike(column, "a list of ids", value),
        }
    }

    /// A whole number from 0.
    ///
    /// # Errors
    /// Without such a column or value.
    pub fn count(&self, column: &str) -> Result<u64> {
        let value = self.value(column)?;
        let number = match value {
            Value::String(text) => text.parse().ok(),
            // Where tables have gaps, integers become floats.
            other => {
                let whole = || other.as_f64().filter(|x| *x >= 0.0 && x.fract() == 0.0).map(|x| x as u64);
                other.as_u64().or_else(whole)
            }
        };
        number.map_or_else(|| self.unlike(column, "a whole number from 0", value), Ok)
    }

    /// A finite number.
    ///
    /// # Errors
    /// Without such a column or value.
    pub fn number(&self, column: &str) -> Result<f64> {
        let value = self.value(column)?;
        let number = match value {
            Value::String(text) => text.parse().ok(),
            other => other.as_f64(),
        };
        match number {
            Some(number) if f64::is_finite(number) => Ok(number),
            Some(_) => Err(self.wrong(RowProblem::NotFinite { column: column.to_owned() })),
            None => self.unlike(column, "a number", value),
        }
    }

    fn value(&self, column: &str) -> Result<&Value> {
        match self.columns.get(column) {
            Some(Value::Null) => Err(self.wrong(RowProblem::NoValue { column: column.to_owned() })),
            Some(value) => Ok(value),
            None => {
                let (column, known) = (column.to_owned(), self.columns.keys().cloned().collect::<Vec<_>>().join(", "));
                Err(self.wrong(RowProblem::NoColumn { column, known }))
            }
        }
    }

    fn wrong(&self, problem: RowProblem) -> DataError {
        DataError::TableRow { place: self.place.clone(), problem }
    }

    fn unlike<T>(&self, column: &str, expected: &'static str, value: &Value) -> Result<T> {
        Err(self.wrong(RowProblem::Type { column: column.to_owned(), expected, got: value.to_string() }))
    }
}

fn id(value: &Value) -> Option<String> {
    match value {
        Value::String(id) if !id.is_empty() => Some(id.clone()),
        Value::Number(id) if !id.is_f64() => Some(id.to_string()),
        _ => None,
    }
}
