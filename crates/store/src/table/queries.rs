//! `queries.parquet`.

use std::path::Path;

use arrow_array::ArrayRef;
use arrow_array::types::Float64Type;
use arrow_schema::{DataType, Field};

use super::Fields;
use super::columns::{Columns, field, fields_column, number_column, optional, optional_string_column, string_column};
use super::rows::{Row, read_rows, write_rows};
use crate::error::Result;

/// A query of a score table.
#[derive(Debug, Clone, PartialEq)]
pub struct QueryRow {
    /// Its id, which names its column in the score table.
    pub query_id: String,
    /// All of its text, if it is of text.
    pub text: Option<String>,
    /// The part that is given.
    pub prompt: Option<String>,
    /// The part that is measured.
    pub completion: Option<String>,
    /// The measurement f(θ).
    pub measurement: f64,
    /// Its other columns.
    pub metadata: Fields,
}

impl QueryRow {
    /// Writes a table of queries.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write_all(path: &Path, rows: &[Self]) -> Result<()> {
        write_rows(path, rows)
    }

    /// Reads a table of queries.
    ///
    /// # Errors
    /// When the file is missing, corrupt, or another table.
    pub fn read_all(path: &Path) -> Result<Vec<Self>> {
        read_rows(path)
    }
}

impl Row for QueryRow {
    fn fields() -> Vec<Field> {
        vec![
            field("query_id", DataType::Utf8),
            optional("text", DataType::Utf8),
            optional("prompt", DataType::Utf8),
            optional("completion", DataType::Utf8),
            field("measurement", DataType::Float64),
            field("metadata", DataType::Utf8),
        ]
    }

    fn columns(rows: &[Self]) -> Vec<ArrayRef> {
        vec![
            string_column(rows.iter().map(|r| &r.query_id)),
            optional_string_column(rows.iter().map(|r| &r.text)),
            optional_string_column(rows.iter().map(|r| &r.prompt)),
            optional_string_column(rows.iter().map(|r| &r.completion)),
            number_column::<Float64Type>(rows.iter().map(|r| r.measurement)),
            fields_column(rows.iter().map(|r| &r.metadata)),
        ]
    }

    fn from_columns(columns: &Columns<'_>) -> Result<Vec<Self>> {
        let mut text = columns.optional_strings("text")?.into_iter();
        let mut prompt = columns.optional_strings("prompt")?.into_iter();
        let mut completion = columns.optional_strings("completion")?.into_iter();
        let mut measurement = columns.numbers::<Float64Type>("measurement")?.into_iter();
        let mut metadata = columns.fields("metadata")?.into_iter();
        let row = |query_id| {
            Some(Self {
                query_id,
                text: text.next()?,
                prompt: prompt.next()?,
                completion: completion.next()?,
                measurement: measurement.next()?,
                metadata: metadata.next()?,
            })
        };
        Ok(columns.strings("query_id")?.into_iter().map_while(row).collect())
    }
}
