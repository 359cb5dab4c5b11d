//! Errors as a person sees them: what failed, and which knob to turn.

use etymon_attribution::AttributionError;
use etymon_curvature::CurvatureError;
use etymon_data::DataError;
use etymon_model::ModelError;
use etymon_store::StoreError;
use etymon_train::TrainError;
use etymon_viewer::ViewerError;

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
    Model(#[from] ModelError),
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
    #[error("full-rank queries need {needed_gib:.1} GiB, {free_gib:.1} GiB of memory are free")]
    QueryMemory { needed_gib: f64, free_gib: f64 },
    #[error("S of `{layer}` would have {width} x {width} numbers: too wide for Kronecker factors")]
    LayerTooWide { layer: String, width: usize },
    #[error("no query `{id}` in {folder}; it has {known}")]
    UnknownQuery { id: String, folder: String, known: String },
    #[error("thread pool: {0}")]
    Threads(#[from] rayon::ThreadPoolBuildError),
}

pub type Result<T> = std::result::Result<T, CliError>;

impl CliError {
    /// The knob to turn.
    pub fn help(&self) -> Option<String> {
        let text = match self {
            Self::NoTokenizer | Self::Data(DataError::NoTokenizer { .. }) => {
                "give the tokenizer with --tokenizer FILE, or data with input_ids"
            }
            Self::Data(DataError::Row { .. }) => "--on-bad-row skip leaves bad rows out and counts them",
            Self::Data(DataError::VocabularyMismatch { .. }) | Self::Model(ModelError::Vocabulary { .. }) => {
                "the data were tokenized for another model; give text, or the right --tokenizer"
            }
            Self::QueryTooLong { .. } => "shorten the prompt: a query is never cut",
            Self::OtherModel { .. } => "fit the factors again with this model",
            Self::QueryMemory { .. } => "--rank 32 keeps queries in low rank; or score fewer queries at a time",
            Self::LayerTooWide { .. } => "choose narrower layers with --layers",
            Self::Attribution(AttributionError::Query { source: ModelError::Target { .. }, .. })
            | Self::Model(ModelError::Target { .. }) => "check the label column (--label) and the task in config.json",
            Self::Model(ModelError::BatchKind { .. }) => "is this the data set of this model?",
            _ => return None,
        };
        Some(text.to_owned())
    }
}
