//! Tables in parquet files.

mod columns;
mod groups;
mod parquet_file;
mod queries;
mod rows;
mod segments;
mod top;
mod training_log;
mod wide;
mod wide_keys;
mod wide_writer;

pub use groups::GroupRow;
pub use queries::QueryRow;
pub use top::{TopRow, TopSide};
pub use training_log::{LossRow, StepRow, TrainingLog, loss_segments, read_losses, read_steps, step_segments};
pub use wide::{Block, LayerTable, ScoreTable, TokenTable, WideTable};
pub use wide_keys::{ByExample, ByLayer, ByToken, RowKeys};
pub use wide_writer::{LayerTableWriter, ScoreTableWriter, TokenTableWriter, WideTableWriter};

/// Free-form fields of an example or a query.
pub type Fields = serde_json::Map<String, serde_json::Value>;
