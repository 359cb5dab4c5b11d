//! Errors of the curvature crate.

use etymon_model::ModelError;
use etymon_tensor::TensorError;

/// What can be wrong with factors or the data they are fitted on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CurvatureError {
    /// The engine refused an operation.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// The model refused a batch.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A file could not be read or written.
    #[error(transparent)]
    Store(#[from] etymon_store::StoreError),
    /// The data could not be read.
    #[error(transparent)]
    Data(#[from] etymon_data::DataError),
    /// One train example that the model does not take.
    #[error("train example `{id}`: {source}")]
    Example {
        /// Example.
        id: String,
        /// Why.
        source: ModelError,
    },
    /// A dense matrix that would not fit.
    #[error(
        "the model has {weights} tapped weights, and a dense matrix is formed for at most {most}: tap fewer layers"
    )]
    TooManyWeights {
        /// Weights of all tapped layers.
        weights: usize,
        /// Most.
        most: usize,
    },
    /// A damped curvature that is not positive definite.
    #[error("the damped curvature is not positive definite; a larger --damping makes it so")]
    NotDefinite,
    /// A right-hand side v for which an iteration on (G + λI) x = v came to no solution.
    #[error("after {products:.0} products, {problem}")]
    Solve {
        /// Position of v among those that are solved together.
        right_side: usize,
        /// Products with G over the whole set before.
        products: f64,
        /// What is wrong.
        problem: Stuck,
    },
    /// The small eigenproblem of a Krylov subspace did not converge.
    #[error("the eigenproblem of {steps} Krylov steps did not converge")]
    Krylov {
        /// Steps.
        steps: usize,
    },
    /// Nothing to fit on.
    #[error("there is no training example to fit on")]
    NoExamples,
    /// A file of an unfinished fit could not be removed.
    #[error("removing {path}: {source}")]
    Remove {
        /// File.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Two partial results of different models or layer choices.
    #[error("partial results do not belong together: {ours} layers against {theirs}, or other widths")]
    Merge {
        /// Layers here.
        ours: usize,
        /// Layers there.
        theirs: usize,
    },
    /// A layer that received no row.
    #[error("layer `{layer}` saw no training row")]
    NoRows {
        /// Layer.
        layer: String,
    },
    /// Covariances with NaN or infinity.
    #[error(
        "layer `{layer}`: factor {factor} holds NaN or infinite values: the model's activations or gradients overflow"
    )]
    NotFinite {
        /// Layer.
        layer: String,
        /// A, S or Λ.
        factor: &'static str,
    },
    /// The eigendecomposition did not converge.
    #[error("layer `{layer}`: the eigendecomposition of factor {factor} did not converge")]
    Eigen {
        /// Layer.
        layer: String,
        /// A or S.
        factor: &'static str,
    },
    /// The factors are of other layers than the model's.
    #[error("the factors do not fit the model: {problem}; fit them again, or choose the same --layers")]
    Layers {
        /// What differs.
        problem: String,
    },
    /// The factors hold no eigenvalue correction.
    #[error(
        "the factors were fitted with --method kfac and hold no eigenvalue correction; fit with --method ekfac, or score with --method kfac"
    )]
    NoCorrection,
    /// A damping that is not a positive number.
    #[error("damping `{given}`: expected rel:X or abs:X with X > 0, such as rel:0.1 or abs:1e-8")]
    Damping {
        /// What was given.
        given: String,
    },
}

/// Why an iteration cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum Stuck {
    /// A matrix that must be positive definite and is not.
    #[error("{what} is {value:.1e} along a direction of length 1: it is not positive definite")]
    NotPositive {
        /// Which matrix.
        what: &'static str,
        /// yᵀ M y / ‖y‖² ≤ 0.
        value: f64,
    },
    /// Numbers that overflow, or were NaN before.
    #[error("numbers are NaN or infinite: the iteration diverged, or the model's gradients overflow")]
    NotFinite,
}

/// The result of every fallible operation of this crate.
pub type Result<T> = std::result::Result<T, CurvatureError>;

impl From<CurvatureError> for ModelError {
    fn from(error: CurvatureError) -> Self {
        match error {
            CurvatureError::Model(error) => error,
            CurvatureError::Tensor(error) => error.into(),
            other => Self::tap(other),
        }
    }
}
