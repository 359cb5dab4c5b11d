//! The only crate of etymon that writes files.
//!
//! - [`write_atomic`], [`AtomicFile`]: a file is written as `NAME.part`, flushed to the disk, then renamed.
//! - [`RunFolder`]: the output folder of a command, with a [`Manifest`] that tells whether it can be resumed or reused.
//! - [`TensorFile`], [`ShardedTensors`], [`TensorWriter`], [`join_tensors`]: safetensors.
//! - [`ScoreTable`], [`LayerTable`], [`TokenTable`] and their writers: influence scores, one column per query.
//! - [`QueryRow`], [`TopRow`], [`GroupRow`]: small tables written at once; [`TrainingLog`]: the log of a training run, safe on a crash.
//! - [`read_json`], [`write_json_atomic`], [`free_bytes`], [`require_space`].
//!
//! Every error is a [`StoreError`], whose message names the file.

mod atomic;
mod disk;
mod error;
mod json;
mod run;
mod table;
mod tensor;

pub use atomic::{AtomicFile, copy_atomic, write_atomic};
pub use disk::{free_bytes, require_space};
pub use error::{Result, StoreError};
pub use json::{read_json, write_json_atomic};
pub use run::{
    Difference, Fingerprint, HashMethod, Manifest, Opened, Overwrite, RunFolder, RunSpec, RunStatus, fingerprint,
};
pub use safetensors::Dtype;
pub use table::{
    Block, ByExample, ByLayer, ByToken, Fields, GroupRow, LayerTable, LayerTableWriter, LossRow, QueryRow, RowKeys,
    ScoreTable, ScoreTableWriter, StepRow, TokenTable, TokenTableWriter, TopRow, TopSide, TrainingLog, WideTable,
    WideTableWriter, loss_segments, read_losses, read_steps, step_segments,
};
pub use tensor::{ShardedTensors, TensorFile, TensorWriter, join_tensors};
