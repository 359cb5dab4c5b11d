//! What a row of a score table is about.

use arrow_array::ArrayRef;
use arrow_array::types::UInt32Type;
use arrow_schema::{DataType, Field};

use super::columns::{Columns, field, number_column, string_column};
use super::wide_writer::WideTableWriter;
use crate::error::Result;

/// The columns of a score table before its queries. Implemented by [`ByExample`], [`ByLayer`] and [`ByToken`] only.
pub trait RowKeys: Keys {}

/// The part of [`RowKeys`] that is no one else's business.
pub trait Keys: Sized {
    /// Files are named `NAME-00000.parquet`.
    const NAME: &'static str;

    #[doc(hidden)]
    fn fields() -> Vec<Field>;

    #[doc(hidden)]
    fn read(columns: &Batch<'_>) -> Result<Self>;
}

/// A batch of a file, opaque to others.
pub struct Batch<'a>(pub(super) Columns<'a>);

/// `scores-*.parquet`: one row per train example.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ByExample {
    /// `[rows]` The train examples.
    pub train_ids: Vec<String>,
}

/// `layers-*.parquet`: one row per train example and layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ByLayer {
    /// `[rows]` The train examples.
    pub train_ids: Vec<String>,
    /// `[rows]` The layers.
    pub layers: Vec<String>,
}

/// `tokens-*.parquet`: one row per train example and token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ByToken {
    /// `[rows]` The train examples.
    pub train_ids: Vec<String>,
    /// `[rows]` The places of the tokens in their examples, from 0.
    pub positions: Vec<u32>,
    /// `[rows]` The tokens as text.
    pub tokens: Vec<String>,
}

impl RowKeys for ByExample {}
impl RowKeys for ByLayer {}
impl RowKeys for ByToken {}

impl Keys for ByExample {
    const NAME: &'static str = "scores";

    fn fields() -> Vec<Field> {
        vec![field("train_id", DataType::Utf8)]
    }

    fn read(Batch(columns): &Batch<'_>) -> Result<Self> {
        Ok(Self { train_ids: columns.strings("train_id")? })
    }
}

impl Keys for ByLayer {
    const NAME: &'static str = "layers";

    fn fields() -> Vec<Field> {
        vec![field("train_id", DataType::Utf8), field("layer", DataType::Utf8)]
    }

    fn read(Batch(columns): &Batch<'_>) -> Result<Self> {
        Ok(Self { train_ids: columns.strings("train_id")?, layers: columns.strings("layer")? })
    }
}

impl Keys for ByToken {
    const NAME: &'static str = "tokens";

    fn fields() -> Vec<Field> {
        vec![field("train_id", DataType::Utf8), field("position", DataType::UInt32), field("token", DataType::Utf8)]
    }

    fn read(Batch(columns): &Batch<'_>) -> Result<Self> {
        let (train_ids, positions) = (columns.strings("train_id")?, columns.u32s("position")?);
        Ok(Self { train_ids, positions, tokens: columns.strings("token")? })
    }
}

impl WideTableWriter<ByExample> {
    /// Appends rows: `scores` is `[rows, queries]`, row-major.
    ///
    /// # Errors
    /// When the lengths do not fit together, or the disk refuses.
    pub fn block(&mut self, train_ids: &[String], scores: &[f32]) -> Result<()> {
        self.push(vec![string_column(train_ids)], scores)
    }
}

impl WideTableWriter<ByLayer> {
    /// Appends rows: `scores` is `[rows, queries]`, row-major; `train_ids` and `layers` are `[rows]`.
    ///
    /// # Errors
    /// When the lengths do not fit together, or the disk refuses.
    pub fn block(&mut self, train_ids: &[String], layers: &[String], scores: &[f32]) -> Result<()> {
        self.push(vec![string_column(train_ids), string_column(layers)], scores)
    }
}

impl WideTableWriter<ByToken> {
    /// Appends rows: `scores` is `[rows, queries]`, row-major; `train_ids`, `positions` and `tokens` are `[rows]`.
    ///
    /// # Errors
    /// When the lengths do not fit together, or the disk refuses.
    pub fn block(&mut self, train_ids: &[String], positions: &[u32], tokens: &[String], scores: &[f32]) -> Result<()> {
        let positions: ArrayRef = number_column::<UInt32Type>(positions.iter().copied());
        self.push(vec![string_column(train_ids), positions, string_column(tokens)], scores)
    }
}
