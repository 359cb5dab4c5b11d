//! Errors of the model crate.

use std::path::PathBuf;

use etymon_tensor::{Shape, TensorError};

/// What can be wrong with a model, its files, or a batch given to it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The engine refused an operation.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// A file could not be read or written.
    #[error(transparent)]
    Store(#[from] etymon_store::StoreError),
    /// A GGUF file could not be read.
    #[error(transparent)]
    Gguf(#[from] crate::gguf::GgufError),
    /// The folder or file holds no model.
    #[error("{path}: no model here: expected a folder with config.json and model.safetensors, or a .gguf file")]
    NotAModel {
        /// Path given.
        path: PathBuf,
    },
    /// An architecture that etymon does not know.
    #[error("config.json: unknown architecture `{found}`; known: {known}")]
    UnknownArchitecture {
        /// `model_type` found.
        found: String,
        /// Known ones.
        known: &'static str,
    },
    /// A key of config.json is absent, of the wrong type or has a value that is not supported.
    #[error("config.json: `{key}`: {problem}")]
    Config {
        /// Key.
        key: String,
        /// What is wrong.
        problem: String,
    },
    /// A parameter is not in the files.
    #[error("{path}: parameter `{name}` is missing")]
    MissingParameter {
        /// Files searched.
        path: PathBuf,
        /// Parameter.
        name: String,
    },
    /// A parameter has another shape than config.json implies.
    #[error("{path}: parameter `{name}` has shape {got:?}, config.json implies {expected:?}")]
    ParameterShape {
        /// File.
        path: PathBuf,
        /// Parameter.
        name: String,
        /// Shape that config.json implies, as stored.
        expected: Vec<usize>,
        /// Shape found.
        got: Vec<usize>,
    },
    /// A parameter holds NaN or infinity.
    #[error("{path}: parameter `{name}` holds {count} values that are NaN or infinite (first at index {first})")]
    NotFinite {
        /// File.
        path: PathBuf,
        /// Parameter.
        name: String,
        /// How many.
        count: usize,
        /// Index of the first.
        first: usize,
    },
    /// A setting of adapters that makes no sense for the model.
    #[error("`{key}`: {problem}")]
    Lora {
        /// Key of `adapter_config.json`.
        key: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// A key of `adapter_config.json` is absent, of the wrong type or asks for what is not supported.
    #[error("{path}: `{key}`: {problem}")]
    AdapterConfig {
        /// File.
        path: PathBuf,
        /// Key.
        key: String,
        /// What is wrong.
        problem: String,
    },
    /// A tensor of an adapter that does not fit its base.
    #[error("{path}: tensor `{name}` {problem}")]
    AdapterTensor {
        /// File.
        path: PathBuf,
        /// Tensor.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// The base model of an adapter is not where the adapter says.
    #[error("{path}: `base_model_name_or_path`: no model at `{base}` (relative to the folder of the adapter)")]
    NoBase {
        /// File.
        path: PathBuf,
        /// The base, as named there.
        base: PathBuf,
    },
    /// The layer pattern matches no layer.
    #[error("layer pattern `{pattern}` matches no layer; layers are {layers}")]
    NoLayers {
        /// Pattern.
        pattern: String,
        /// Names of all layers, shortened.
        layers: String,
    },
    /// A direction in the weights does not fit the tapped layers.
    #[error(
        "a direction needs one matrix [d_out, d_in] for each of the {layers} tapped layers; got {got}, or other shapes"
    )]
    Direction {
        /// Tapped layers.
        layers: usize,
        /// Matrices given.
        got: usize,
    },
    /// Products that have no place, or places without a product.
    #[error("{directions} directions are multiplied into {outs} outs: each needs one")]
    Products {
        /// Directions.
        directions: usize,
        /// Outs.
        outs: usize,
    },
    /// A tapped head that shares its weight with the embedding.
    #[error(
        "layer `{layer}` shares its weight with the embedding and cannot be moved alone: tap other layers for the true Hessian"
    )]
    Tied {
        /// The head.
        layer: String,
    },
    /// The layer pattern is not a valid regular expression.
    #[error("layer pattern `{pattern}`: {source}")]
    Pattern {
        /// Pattern.
        pattern: String,
        /// Why.
        source: regex::Error,
    },
    /// A batch of another kind than the model takes.
    #[error("the model takes {expected}, the data are {got}")]
    BatchKind {
        /// What the model takes.
        expected: &'static str,
        /// What it was given.
        got: &'static str,
    },
    /// A feature row of the wrong width.
    #[error("the model takes {expected} features, the data have {got}")]
    Features {
        /// Features the model takes.
        expected: usize,
        /// Features given.
        got: usize,
    },
    /// A token id outside of the vocabulary.
    #[error("token id {id} is outside of the model's vocabulary of {vocab}: is this the tokenizer of another model?")]
    Vocabulary {
        /// Token id.
        id: u32,
        /// Vocabulary size.
        vocab: usize,
    },
    /// A sequence longer than the context of the model.
    #[error("a sequence of {len} tokens is longer than the model's context of {context}")]
    TooLong {
        /// Tokens.
        len: usize,
        /// Context.
        context: usize,
    },
    /// A label or target that does not fit the task.
    #[error("the model's task is {task}: {problem}")]
    Target {
        /// Task of the model.
        task: &'static str,
        /// What does not fit.
        problem: String,
    },
    /// An objective that the model's task does not have.
    #[error("the measurement `{measurement}` does not exist for {task}")]
    Measurement {
        /// Measurement.
        measurement: &'static str,
        /// Task of the model.
        task: &'static str,
    },
    /// Two matrices of a checkpoint or a gradient do not have the same shape.
    #[error("{what}: shape {got}, expected {expected}")]
    Shape {
        /// What.
        what: String,
        /// Expected.
        expected: Shape,
        /// Got.
        got: Shape,
    },
    /// An error of a tap, passed through.
    #[error(transparent)]
    Tap(Box<dyn std::error::Error + Send + Sync>),
}

/// The result of every fallible operation of this crate.
pub type Result<T> = std::result::Result<T, ModelError>;
