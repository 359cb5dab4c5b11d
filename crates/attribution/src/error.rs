//! Errors of the attribution crate.

use etymon_curvature::CurvatureError;
use etymon_data::DataError;
use etymon_model::ModelError;
use etymon_store::StoreError;
use etymon_tensor::TensorError;

use crate::QueryValue;

/// What can be wrong with queries, data or factors.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttributionError {
    /// The engine refused an operation.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// The model refused a batch.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The factors could not be read.
    #[error(transparent)]
    Curvature(#[from] CurvatureError),
    /// The data could not be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// There is no query.
    #[error("there is no query to score")]
    NoQueries,
    /// A layer of a fine-tuned model whose tie to pre-training makes no sense.
    #[error("layer `{layer}` of the fine-tuned model {problem}")]
    Stage {
        /// Layer.
        layer: String,
        /// What is wrong.
        problem: String,
    },
    /// Two stages between which there is nothing to pass on.
    #[error("the fine-tuned model has no {what}, so that nothing goes from one stage to the other")]
    StageWithout {
        /// What is missing.
        what: &'static str,
    },
    /// A group without an example.
    #[error("the group has no example")]
    NoGroup,
    /// One query that the model does not take.
    #[error("query `{id}`: {source}")]
    Query {
        /// Query.
        id: String,
        /// Why.
        source: ModelError,
    },
    /// A query whose solve came to nothing.
    #[error("query `{id}`: {source}")]
    Unsolved {
        /// Query.
        id: String,
        /// Why.
        source: CurvatureError,
    },
    /// A query whose measurement or preconditioned gradient is not finite.
    #[error("query `{id}`: {what} is NaN or infinite; check the model with `etymon doctor`, and raise --damping")]
    NotFinite {
        /// Query.
        id: String,
        /// Its measurement, or its gradient at a layer.
        what: String,
    },
    /// A train example whose score is not finite.
    #[error("train example `{id}`: its score is NaN or infinite; check the model with `etymon doctor`")]
    ScoreNotFinite {
        /// Example.
        id: String,
    },
    /// One train example that the model does not take.
    #[error("train example `{id}`: {source}")]
    Example {
        /// Example.
        id: String,
        /// Why.
        source: ModelError,
    },
    /// The training log could not be read.
    #[error(transparent)]
    Log(#[from] StoreError),
    /// A training log without steps of a run.
    #[error("the training log has no step of run `{run}`")]
    NoSteps {
        /// Run.
        run: String,
    },
    /// A step between two measurements that is not in the training log.
    #[error("run `{run}`: step {step} is not in the training log, though losses were measured around it")]
    NoStep {
        /// Run.
        run: String,
        /// Step.
        step: u64,
    },
    /// A query whose loss a run did not measure twice.
    #[error(
        "query `{query}` was measured {times} times in run `{run}`, at least 2 are needed; train with it in `watch`"
    )]
    NotWatched {
        /// Query.
        query: String,
        /// Run.
        run: String,
        /// Measurements.
        times: usize,
    },
    /// A projection of no dimension, or a λ that is none.
    #[error("TRAK: --trak-dim {dim} must be at least 1, and --trak-lambda {lambda} finite and not negative")]
    TrakOptions {
        /// k.
        dim: usize,
        /// λ.
        lambda: f64,
    },
    /// Features of the train set that do not span their dimensions, and λ = 0.
    #[error(
        "TRAK: the gradients of {n_train} train examples do not span the {dim} dimensions they are projected to; choose a \
         smaller --trak-dim, or --trak-lambda above 0"
    )]
    TrakSingular {
        /// k.
        dim: usize,
        /// N.
        n_train: usize,
    },
    /// Scores that no model was added to.
    #[error("there is no model to score with")]
    NoModel,
    /// Queries or train examples that were more or fewer before.
    #[error("{expected} {what} were expected, {got} came; did the file change?")]
    Count {
        /// Of what.
        what: &'static str,
        /// Before.
        expected: usize,
        /// Now.
        got: usize,
    },
    /// The singular value decomposition did not converge.
    #[error("layer `{layer}`: the low-rank approximation did not converge; score without --rank")]
    Svd {
        /// Layer.
        layer: String,
    },
    /// What compares words has none.
    #[error("example `{id}` {what}: n-grams are of texts")]
    NoText {
        /// Example.
        id: String,
        /// Why there is no text.
        what: &'static str,
    },
    /// The pattern of words is not understood.
    #[error("the pattern of words: {source}")]
    Pattern {
        /// Why.
        source: regex::Error,
    },
    /// The sink of the scores failed.
    #[error(transparent)]
    Sink(Box<dyn std::error::Error + Send + Sync>),
    /// A sink that writes behind takes no more blocks: it failed before, or panicked.
    #[error("the writer of the scores has stopped")]
    SinkStopped,
}

impl AttributionError {
    /// Names the query of a failed solve, one of `values`.
    pub(crate) fn unsolved(source: CurvatureError, values: &[QueryValue]) -> Self {
        match &source {
            CurvatureError::Solve { right_side, .. } if *right_side < values.len() => {
                Self::Unsolved { id: values[*right_side].id.clone(), source }
            }
            _ => source.into(),
        }
    }

    /// Wraps the error of a sink.
    pub fn sink(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Sink(Box::new(error))
    }
}

/// The result of every fallible operation of this crate.
pub type Result<T> = std::result::Result<T, AttributionError>;

impl From<AttributionError> for ModelError {
    fn from(error: AttributionError) -> Self {
        match error {
            AttributionError::Model(error) => error,
            AttributionError::Tensor(error) => error.into(),
            other => Self::tap(other),
        }
    }
}
