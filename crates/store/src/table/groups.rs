//! `groups.parquet`.

use std::path::Path;

use arrow_array::ArrayRef;
use arrow_array::types::{Float64Type, UInt32Type};
use arrow_schema::{DataType, Field};

use super::columns::{Columns, field, number_column, string_column};
use super::rows::{Row, read_rows, write_rows};
use crate::error::Result;

/// The influence of a group of train examples on a query.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupRow {
    /// Name of the group.
    pub group: String,
    /// Its examples.
    pub examples: u32,
    /// The query.
    pub query_id: String,
    /// The sum of the scores of its examples.
    pub first: f64,
    /// The same with the correction for what they have in common.
    pub second: f64,
}

impl GroupRow {
    /// Writes a table of groups.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write_all(path: &Path, rows: &[Self]) -> Result<()> {
        write_rows(path, rows)
    }

    /// Reads a table of groups.
    ///
    /// # Errors
    /// When the file is missing, corrupt, or another table.
    pub fn read_all(path: &Path) -> Result<Vec<Self>> {
        read_rows(path)
    }
}

impl Row for GroupRow {
    fn fields() -> Vec<Field> {
        vec![
            field("group", DataType::Utf8),
            field("examples", DataType::UInt32),
            field("query_id", DataType::Utf8),
            field("first", DataType::Float64),
            field("second", DataType::Float64),
        ]
    }

    fn columns(rows: &[Self]) -> Vec<ArrayRef> {
        vec![
            string_column(rows.iter().map(|r| &r.group)),
            number_column::<UInt32Type>(rows.iter().map(|r| r.examples)),
            string_column(rows.iter().map(|r| &r.query_id)),
            number_column::<Float64Type>(rows.iter().map(|r| r.first)),
            number_column::<Float64Type>(rows.iter().map(|r| r.second)),
        ]
    }

    fn from_columns(columns: &Columns<'_>) -> Result<Vec<Self>> {
        let mut examples = columns.u32s("examples")?.into_iter();
        let mut query_id = columns.strings("query_id")?.into_iter();
        let mut first = columns.numbers::<Float64Type>("first")?.into_iter();
        let mut second = columns.numbers::<Float64Type>("second")?.into_iter();
        let row = |group| {
            Some(Self {
                group,
                examples: examples.next()?,
                query_id: query_id.next()?,
                first: first.next()?,
                second: second.next()?,
            })
        };
        Ok(columns.strings("group")?.into_iter().map_while(row).collect())
    }
}
