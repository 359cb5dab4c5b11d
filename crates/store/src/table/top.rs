//! `top.parquet`.

use std::path::Path;

use arrow_array::ArrayRef;
use arrow_array::types::{Float32Type, UInt32Type};
use arrow_schema::{DataType, Field};

use super::Fields;
use super::columns::{
    Columns, f32_list_column, field, fields_column, list_of, number_column, optional, optional_string_column,
    string_column, string_list_column,
};
use super::rows::{Row, read_rows, write_rows};
use crate::error::Result;

/// The end of a ranking that an example is near.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopSide {
    /// The highest scores.
    Proponent,
    /// The lowest.
    Opponent,
}

impl TopSide {
    const fn name(self) -> &'static str {
        match self {
            Self::Proponent => "proponent",
            Self::Opponent => "opponent",
        }
    }
}

/// A train example near an end of a query's ranking.
#[derive(Debug, Clone, PartialEq)]
pub struct TopRow {
    /// The query.
    pub query_id: String,
    /// Which end.
    pub side: TopSide,
    /// Its place, from 1, counted from that end.
    pub rank: u32,
    /// The train example.
    pub train_id: String,
    /// Its influence score.
    pub score: f32,
    /// Its text, if it is of text.
    pub text: Option<String>,
    /// Its text in tokens, when scored per token.
    pub tokens: Option<Vec<String>>,
    /// The score of each token.
    pub token_scores: Option<Vec<f32>>,
    /// The score of each layer, in the model's order of layers, when scored per layer.
    pub layer_scores: Option<Vec<f32>>,
    /// Its other columns.
    pub metadata: Fields,
}

impl TopRow {
    /// Writes a table of top examples.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write_all(path: &Path, rows: &[Self]) -> Result<()> {
        write_rows(path, rows)
    }

    /// Reads a table of top examples.
    ///
    /// # Errors
    /// When the file is missing, corrupt, or another table.
    pub fn read_all(path: &Path) -> Result<Vec<Self>> {
        read_rows(path)
    }
}

impl Row for TopRow {
    fn fields() -> Vec<Field> {
        vec![
            field("query_id", DataType::Utf8),
            field("side", DataType::Utf8),
            field("rank", DataType::UInt32),
            field("train_id", DataType::Utf8),
            field("score", DataType::Float32),
            optional("text", DataType::Utf8),
            optional("tokens", list_of(DataType::Utf8)),
            optional("token_scores", list_of(DataType::Float32)),
            optional("layer_scores", list_of(DataType::Float32)),
            field("metadata", DataType::Utf8),
        ]
    }

    fn columns(rows: &[Self]) -> Vec<ArrayRef> {
        vec![
            string_column(rows.iter().map(|r| &r.query_id)),
            string_column(rows.iter().map(|r| r.side.name())),
            number_column::<UInt32Type>(rows.iter().map(|r| r.rank)),
            string_column(rows.iter().map(|r| &r.train_id)),
            number_column::<Float32Type>(rows.iter().map(|r| r.score)),
            optional_string_column(rows.iter().map(|r| &r.text)),
            string_list_column(rows.iter().map(|r| r.tokens.as_deref())),
            f32_list_column(rows.iter().map(|r| r.token_scores.as_deref())),
            f32_list_column(rows.iter().map(|r| r.layer_scores.as_deref())),
            fields_column(rows.iter().map(|r| &r.metadata)),
        ]
    }

    fn from_columns(columns: &Columns<'_>) -> Result<Vec<Self>> {
        let mut sides = columns.strings("side")?.into_iter();
        let mut rank = columns.u32s("rank")?.into_iter();
        let mut train_id = columns.strings("train_id")?.into_iter();
        let mut score = columns.numbers::<Float32Type>("score")?.into_iter();
        let mut text = columns.optional_strings("text")?.into_iter();
        let mut tokens = columns.string_lists("tokens")?.into_iter();
        let mut token_scores = columns.f32_lists("token_scores")?.into_iter();
        let mut layer_scores = columns.f32_lists("layer_scores")?.into_iter();
        let mut metadata = columns.fields("metadata")?.into_iter();
        let row = |query_id| {
            Some(Self {
                query_id,
                side: if sides.next()? == TopSide::Opponent.name() { TopSide::Opponent } else { TopSide::Proponent },
                rank: rank.next()?,
                train_id: train_id.next()?,
                score: score.next()?,
                text: text.next()?,
                tokens: tokens.next()?,
                token_scores: token_scores.next()?,
                layer_scores: layer_scores.next()?,
                metadata: metadata.next()?,
            })
        };
        Ok(columns.strings("query_id")?.into_iter().map_while(row).collect())
    }
}
