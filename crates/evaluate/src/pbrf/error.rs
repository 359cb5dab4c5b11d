//! Errors of proximal responses.

use etymon_model::ModelError;

/// What can be wrong with a proximal response.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PbrfError {
    /// The engine refused an operation.
    #[error(transparent)]
    Tensor(#[from] etymon_tensor::TensorError),
    /// The model refused the data.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The data cannot be stacked.
    #[error(transparent)]
    Data(#[from] etymon_data::DataError),
    /// A file could not be read or written.
    #[error(transparent)]
    Store(#[from] etymon_store::StoreError),
    /// The leading curvature could not be found.
    #[error(transparent)]
    Curvature(#[from] etymon_curvature::CurvatureError),
    /// Not one λ per tapped layer.
    #[error("{got} dampings are given for {layers} tapped layers")]
    Damping {
        /// Tapped layers.
        layers: usize,
        /// Dampings given.
        got: usize,
    },
    /// A λ or ε that makes no sense.
    #[error("{name} is {value}; it must be a finite number{}", if *name == "λ" { " above 0" } else { " other than 0" })]
    Number {
        /// Which.
        name: &'static str,
        /// Its value.
        value: f64,
    },
    /// No train example.
    #[error("there is no train example")]
    NoExamples,
    /// The objective became NaN or infinite.
    #[error("the proximal objective of train example `{id}` is not finite after {evaluations} evaluations")]
    Diverged {
        /// The train example.
        id: String,
        /// Gradients computed.
        evaluations: u64,
    },
    /// A worker could not start its threads.
    #[error("threads: {0}")]
    Threads(#[from] rayon::ThreadPoolBuildError),
}
