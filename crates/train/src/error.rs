//! Errors of the train crate.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use etymon_data::ExampleIndex;
use etymon_store::Difference;

/// What can be wrong with a training run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// The engine refused an operation.
    #[error(transparent)]
    Tensor(#[from] etymon_tensor::TensorError),
    /// The model, or its files.
    #[error(transparent)]
    Model(#[from] etymon_model::ModelError),
    /// The data.
    #[error(transparent)]
    Data(#[from] etymon_data::DataError),
    /// A file could not be read or written.
    #[error(transparent)]
    Store(#[from] etymon_store::StoreError),
    /// A setting of a configuration file.
    #[error("{}{}: {}{problem}", file.display(), line.map_or_else(String::new, |l| format!(":{l}")), key.as_ref().map_or_else(String::new, |k| format!("`{k}`: ")))]
    Config {
        /// The file.
        file: PathBuf,
        /// Line, from 1, if the setting is in the file.
        line: Option<usize>,
        /// The key, if the line has one.
        key: Option<String>,
        /// What is wrong.
        problem: String,
    },
    /// A setting that makes no sense, by itself or beside another one.
    #[error("`{key}`: {problem}")]
    Setting {
        /// The key.
        key: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// No example to train on.
    #[error("there is no example to train on ({given} given, {excluded} of them excluded)")]
    NoExamples {
        /// Examples given.
        given: usize,
        /// How many of them are excluded.
        excluded: usize,
    },
    /// Two train examples with the same index.
    #[error("two train examples have the index {index}")]
    DuplicateIndex {
        /// The index.
        index: ExampleIndex,
    },
    /// A curriculum or an exclusion names an example that is not there.
    #[error("the {list} names train example {index}, which is not in the train set")]
    UnknownExample {
        /// Which list.
        list: &'static str,
        /// The index.
        index: ExampleIndex,
    },
    /// The model does not take an example.
    #[error("{set} example `{id}`: {source}")]
    Example {
        /// "train" or "watched".
        set: &'static str,
        /// Its id.
        id: String,
        /// Why.
        source: Box<etymon_model::ModelError>,
    },
    /// The loss or the gradient is NaN or infinite.
    #[error(
        "training diverged at step {step}: the loss is {loss}, the norm of the gradient {norm}; lower `lr`, warm up longer or set `clip_norm`"
    )]
    Diverged {
        /// The step, from 0.
        step: u64,
        /// Loss of the batch.
        loss: f64,
        /// Norm of its gradient.
        norm: f64,
    },
    /// One run of several failed.
    #[error("{name}: {source}")]
    Run {
        /// The run.
        name: String,
        /// Why.
        source: Box<TrainError>,
    },
    /// A checkpoint of another run.
    #[error("{path} is a checkpoint of a run with other settings:{}", list(differences))]
    OtherRun {
        /// The checkpoint.
        path: PathBuf,
        /// Every setting that differs.
        differences: Vec<Difference>,
    },
    /// A checkpoint of a model of other parameters.
    #[error("{path}: the checkpoint has {got}, the model has {expected}")]
    OtherModel {
        /// The checkpoint.
        path: PathBuf,
        /// What the model has.
        expected: String,
        /// What the checkpoint has.
        got: String,
    },
    /// Not even one run fits.
    #[error("one training run needs about {needed} bytes of memory, {allowed} are allowed")]
    Memory {
        /// Bytes of one run.
        needed: u64,
        /// Bytes allowed.
        allowed: u64,
    },
    /// Threads could not be started.
    #[error("thread pool: {0}")]
    Threads(#[from] rayon::ThreadPoolBuildError),
    /// A folder could not be written.
    #[error("{action} {path}: {source}")]
    Folder {
        /// What was being done.
        action: &'static str,
        /// The folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
}

impl TrainError {
    pub(crate) fn setting(key: &'static str, problem: impl Into<String>) -> Self {
        Self::Setting { key, problem: problem.into() }
    }

    pub(crate) fn folder(action: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::Folder { action, path: path.to_owned(), source }
    }
}

fn list(differences: &[Difference]) -> String {
    differences.iter().fold(String::new(), |mut text, difference| {
        let _ = write!(text, "\n  {difference}");
        text
    })
}

/// The result of every fallible operation of this crate.
pub type Result<T> = std::result::Result<T, TrainError>;
