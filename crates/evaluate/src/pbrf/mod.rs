//! Ground truth by optimisation: the proximal Bregman response function (Bae et al. 2022, 2209.05364; methods.md §2).
//!
//! A [`Proximal`] objective is minimised from the trained parameters on; what queries measure there, less what they measured
//! before, is what an influence times ε should be. [`ResponseFolder`] does it for many train examples; [`judge`] compares.

mod adam;
mod error;
mod judge;
mod lbfgs;
mod leading;
mod minimise;
mod objective;
mod response;
mod vectors;

pub use error::PbrfError;
pub use judge::{Agreement, draw_indices, judge};
pub use minimise::{Minimiser, Solution};
pub use objective::Proximal;
pub use response::{Change, Response, ResponseFolder};

/// The result of every fallible operation of this module.
type Result<T> = std::result::Result<T, PbrfError>;
