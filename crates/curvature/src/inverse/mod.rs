//! Products with (G + λI)⁻¹ by iteration, from Gauss-Newton products alone, DataInf's, that by the diagonal, and the
//! dense solve that they are checked against; and products with the true Hessian. A direction is one matrix
//! `[d_out, d_in]` per tapped layer; λ is one number per layer.

mod astra;
mod cg;
mod conjugate;
mod datainf;
mod dense;
mod diagonal;
mod direction;
mod hessian;
mod lanczos;
mod lissa;
mod operator;
mod power;
mod series;
mod solver;
mod stack;

pub use astra::{AstraOptions, astra};
pub use cg::{CgOptions, ConjugateGradients, KeptDirections, conjugate_gradients};
pub use conjugate::ConjugateDirections;
pub use datainf::{DataInf, lambda_of_gradients};
pub use dense::{Dense, DenseInverse};
pub use diagonal::DiagonalInverse;
pub use hessian::Hessian;
pub use lanczos::Lanczos;
pub use lissa::{LissaOptions, lissa};
pub use operator::{Damped, EkfacInverse, GaussNewton, LinearOperator};
pub use power::largest_eigenvalue;
pub use solver::{Solved, Solver, Way};

/// An approximate solution of (G + λI) x = v.
#[derive(Clone, Debug)]
pub struct Solution<T> {
    /// x, one matrix `[d_out, d_in]` per layer.
    pub x: Vec<T>,
    /// Products with G over the whole set that it took; a part of the set counts as that part.
    pub products: f64,
    /// ‖v − (G + λI) x‖ / ‖v‖ after each step, as far as the method knows it; 0 where v is 0.
    pub residuals: Vec<f64>,
}

impl<T> Solution<T> {
    /// The last residual; 1 where no step was taken.
    pub fn residual(&self) -> f64 {
        self.residuals.last().copied().unwrap_or(1.0)
    }
}
