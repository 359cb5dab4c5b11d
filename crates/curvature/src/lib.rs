//! Curvature of a model's train loss, layer by layer: covariances A and S → eigenbases → eigenvalue correction Λ.
//!
//! Each pass is a fold over shards of the train set: [`CovarianceTap`] and [`CorrectionTap`] make a partial result of
//! one shard, and partial results [`merge`](Covariances::merge) by addition in f64. [`Factors`] are what is stored:
//! fitted, undamped, never changed. [`Preconditioner`] is a damped view of them that multiplies by (G + λI)⁻¹.

mod correction;
mod covariance;
mod damping;
mod eigen;
mod error;
mod factors;
mod fit;
pub mod inverse;
mod memory;
mod operations;
mod partial;
mod parts;
mod precondition;

pub use correction::{CorrectionTap, Corrections};
pub use covariance::{CovarianceTap, Covariances, LayerCovariance};
pub use damping::Damping;
pub use eigen::{Eigenbases, Eigenbasis, eigendecompose};
pub use error::{CurvatureError, Result, Stuck};
pub use factors::{Factors, LayerFactors, Spectrum};
pub use fit::{FitObserver, FitOptions, FitSummary, Labels, Phase, fit};
pub use memory::{FitMemory, correction_flops, covariance_flops, eigen_flops};
pub use operations::RotationOrder;
pub use precondition::{LayerPreconditioner, Preconditioner};
