//! Errors of the evaluate crate.

use std::path::PathBuf;

/// What can be wrong with an evaluation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvaluateError {
    /// A retraining failed.
    #[error("retraining with seed {seed} without {excluded} examples: {source}")]
    World {
        /// Its training seed.
        seed: u64,
        /// Number of its excluded examples.
        excluded: usize,
        /// Why.
        source: Box<etymon_train::TrainError>,
    },
    /// Training.
    #[error(transparent)]
    Train(#[from] etymon_train::TrainError),
    /// The model.
    #[error(transparent)]
    Model(#[from] etymon_model::ModelError),
    /// Data.
    #[error(transparent)]
    Data(#[from] etymon_data::DataError),
    /// A file could not be read or written.
    #[error(transparent)]
    Store(#[from] etymon_store::StoreError),
    /// Threads could not be started.
    #[error("thread pool: {0}")]
    Threads(#[from] rayon::ThreadPoolBuildError),
    /// A file of a world does not have what its name says.
    #[error("{path}: probe `{probe}` has {got} values, expected {expected}; remove the file to train again")]
    WorldFile {
        /// The file.
        path: PathBuf,
        /// The probe.
        probe: String,
        /// Values of the file.
        got: usize,
        /// Examples of the probe.
        expected: usize,
    },
    /// Two probes of one name.
    #[error("two probes have the name `{name}`")]
    ProbeName {
        /// The name.
        name: String,
    },
    /// A folder with neither a score table nor complete ones below.
    #[error("{folder} has no scores-*.parquet, nor has a folder in it")]
    NoScores {
        /// The folder.
        folder: PathBuf,
    },
    /// A score table lacks a query.
    #[error("{folder} has no scores of query `{query}`; score the same queries as are evaluated")]
    MissingQuery {
        /// The table.
        folder: PathBuf,
        /// The query.
        query: String,
    },
    /// A score table has no row of some train examples.
    #[error(
        "{folder} scores {got} of {expected} train examples; `{id}` is not among them; score all rows, without a filter"
    )]
    MissingRows {
        /// The table.
        folder: PathBuf,
        /// Rows known to both.
        got: usize,
        /// Train examples.
        expected: usize,
        /// The first that is missing.
        id: String,
    },
    /// A score table names an example that is not in the train set.
    #[error("{folder} has a row of `{id}`, which is no example of the train set: is it of other data?")]
    UnknownRow {
        /// The table.
        folder: PathBuf,
        /// The id.
        id: String,
    },
    /// A score table has two rows of one example.
    #[error("{folder} has two rows of `{id}`")]
    DuplicateRow {
        /// The table.
        folder: PathBuf,
        /// The id.
        id: String,
    },
    /// A score that is NaN or infinite.
    #[error("{folder}: the score of `{id}` on query `{query}` is {value}")]
    NotFinite {
        /// The table.
        folder: PathBuf,
        /// The train example.
        id: String,
        /// The query.
        query: String,
        /// The score.
        value: f32,
    },
    /// A line of a file of given retrainings.
    #[error("{path}:{line}: {problem}")]
    Truth {
        /// The file.
        path: PathBuf,
        /// The line, from 1; 0 for the file as a whole.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// More rows are drawn than there are.
    #[error("{wanted} of {n} examples cannot be drawn: there must be at least one, and one left")]
    Draw {
        /// Rows asked for.
        wanted: usize,
        /// Rows there.
        n: usize,
    },
    /// Labels of rows that are no classes cannot be flipped.
    #[error("train example `{id}` has no class to flip")]
    NoClass {
        /// The example.
        id: String,
    },
    /// Predictions need rows of features with classes.
    #[error("predictions are of rows of features with a class; example `{id}` is none")]
    NoPrediction {
        /// The example.
        id: String,
    },
    /// A plot could not be drawn.
    #[error("drawing the plot: {problem}")]
    Plot {
        /// What the drawing library said.
        problem: String,
    },
}

/// The result of every fallible operation of this crate.
pub type Result<T> = std::result::Result<T, EvaluateError>;
