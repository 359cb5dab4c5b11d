//! Errors as a person sees them: what failed, and which knob to turn.

use std::path::PathBuf;

use etymon_attribution::AttributionError;
use etymon_curvature::{CurvatureError, Damping};
use etymon_data::DataError;
use etymon_evaluate::EvaluateError;
use etymon_evaluate::pbrf::PbrfError;
use etymon_model::ModelError;
use etymon_simulate::SimulateError;
use etymon_store::StoreError;
use etymon_train::TrainError;
use etymon_viewer::ViewerError;

use crate::machine::Bytes;

/// What a command can fail with.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    #[error(transparent)]
    Attribution(#[from] AttributionError),
    #[error(transparent)]
    Curvature(#[from] CurvatureError),
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Pbrf(#[from] PbrfError),
    #[error(transparent)]
    Simulate(#[from] SimulateError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Tensor(#[from] etymon_tensor::TensorError),
    #[error(transparent)]
    Train(#[from] TrainError),
    #[error(transparent)]
    Viewer(#[from] ViewerError),
    #[error("{option}: {problem}")]
    Usage { option: &'static str, problem: String },
    #[error("the model has no tokenizer, and the data are text")]
    NoTokenizer,
    #[error("query `{id}` has {tokens} tokens, the model's context is {context}")]
    QueryTooLong { id: String, tokens: usize, context: usize },
    #[error("the factors in {folder} were fitted on another model: {file} differs")]
    OtherModel { folder: String, file: String },
    #[error("this needs {needed} of memory even in the smallest batches and groups of layers, {allowed} are allowed")]
    Memory { needed: Bytes, allowed: Bytes },
    #[error("example `{id}`: {source}")]
    Example { id: String, source: ModelError },
    #[error("query id `{id}` is empty or the name of a column of the tables")]
    QueryId { id: String },
    #[error("S of `{layer}` would have {width} x {width} numbers: too wide for Kronecker factors")]
    LayerTooWide { layer: String, width: usize },
    #[error("no query `{id}` in {folder}; it has {known}")]
    UnknownQuery { id: String, folder: String, known: String },
    #[error("there is no score table in {}, nor in the folders in it", folder.display())]
    NoScores { folder: PathBuf },
    #[error(
        "the score tables are not over the same rows: of {what} {number}, in {} {found}, in {} {other_found}",
        folder.display(), other.display()
    )]
    OtherRows { what: &'static str, number: usize, folder: PathBuf, found: String, other: PathBuf, other_found: String },
    #[error("{method} with --damping {damping}: {source}")]
    Solve { method: &'static str, damping: Damping, source: AttributionError },
    #[error("thread pool: {0}")]
    Threads(#[from] rayon::ThreadPoolBuildError),
}

pub type Result<T> = std::result::Result<T, CliError>;

impl CliError {
    /// The knob to turn.
    pub fn help(&self) -> Option<String> {
        let text = match self {
            Self::NoTokenizer => "give the tokenizer with --tokenizer FILE, or data with input_ids",
            Self::QueryTooLong { .. } => "shorten the prompt: a query is never cut",
            Self::OtherModel { .. } => "fit the factors again with this model",
            Self::Memory { .. } => {
                "tap fewer layers with --layers, keep queries in low rank with --rank 32, or raise --memory-limit"
            }
            Self::Train(TrainError::Memory { .. }) => {
                "raise --memory-limit, or lower micro_batch_rows in the configuration"
            }
            Self::LayerTooWide { .. } => "choose fewer or narrower layers with --layers",
            Self::OtherRows { .. } => "score again with the same --data, --max-rows, --filter and --queries",
            Self::Simulate(SimulateError::Unseen { .. }) => {
                "--unseen mean gives them the mean effect of those that were seen"
            }
            Self::Simulate(SimulateError::NoColumns { .. }) => "give the training data with --data",
            Self::Simulate(SimulateError::NotDefinite { .. } | SimulateError::NoLambda) => "give a larger --lambda",
            Self::Simulate(SimulateError::TooManyRows { .. }) => "give --lambda, or the log of a second run",
            Self::Solve { .. } => {
                "raise --damping; if that does not help, compute with --dtype f32, and check the model with `etymon doctor`"
            }
            Self::QueryId { .. } => "give the query another id",
            other => {
                return other.data().map_or_else(|| other.model().and_then(model_help), data_help).map(str::to_owned);
            }
        };
        Some(text.to_owned())
    }

    /// The data error inside.
    fn data(&self) -> Option<&DataError> {
        match self {
            Self::Data(e)
            | Self::Pbrf(PbrfError::Data(e))
            | Self::Attribution(AttributionError::Data(e))
            | Self::Curvature(CurvatureError::Data(e))
            | Self::Evaluate(EvaluateError::Data(e) | EvaluateError::Train(TrainError::Data(e)))
            | Self::Train(TrainError::Data(e)) => Some(e),
            _ => None,
        }
    }

    /// The model error inside.
    fn model(&self) -> Option<&ModelError> {
        match self {
            Self::Model(e)
            | Self::Pbrf(PbrfError::Model(e))
            | Self::Example { source: e, .. }
            | Self::Curvature(CurvatureError::Model(e) | CurvatureError::Example { source: e, .. })
            | Self::Attribution(
                AttributionError::Model(e)
                | AttributionError::Query { source: e, .. }
                | AttributionError::Example { source: e, .. },
            ) => Some(e),
            Self::Train(TrainError::Example { source, .. })
            | Self::Evaluate(EvaluateError::Train(TrainError::Example { source, .. })) => Some(source),
            _ => None,
        }
    }
}

fn data_help(error: &DataError) -> Option<&'static str> {
    match error {
        DataError::NoTokenizer { .. } => Some("give the tokenizer with --tokenizer FILE, or data with input_ids"),
        DataError::Row { .. } => {
            Some("--on-bad-row skip (in a training file: skip_bad_rows = true) leaves bad rows out and counts them")
        }
        DataError::VocabularyMismatch { .. } => Some(OTHER_TOKENIZER),
        _ => None,
    }
}

const OTHER_TOKENIZER: &str = "the data were tokenized for another model; give text, or the right --tokenizer";

fn model_help(error: &ModelError) -> Option<&'static str> {
    match error {
        ModelError::Vocabulary { .. } => Some(OTHER_TOKENIZER),
        ModelError::Target { .. } => Some("check the label column (--label) and the task in config.json"),
        ModelError::NoBase { .. } => Some("give the folder of the base model with --base"),
        ModelError::BatchKind { .. } => Some("is this the data set of this model?"),
        _ => None,
    }
}
