//! Leading eigenpairs by Krylov iteration, and the inverse that they give.

use etymon_tensor::Backend;
use faer::{Mat, Side};

use super::LinearOperator;
use super::direction::{axpy, dot, random, scale, zeros_like};
use crate::{CurvatureError, Result};

/// A symmetric matrix on a Krylov subspace: Ritz values θ_i and vectors u_i (Lanczos 1950; used for influence by Schioppa et
/// al. 2021, who call it Arnoldi's iteration).
#[derive(Clone, Debug)]
pub struct Lanczos<T> {
    /// Ritz values, falling.
    pub values: Vec<f64>,
    /// Orthonormal Ritz vectors, one direction each.
    pub vectors: Vec<Vec<T>>,
}

impl<T: Clone + Send + Sync + std::fmt::Debug> Lanczos<T> {
    /// Runs `steps` products from a random direction with the shapes of `like`, orthogonalising each against all earlier ones
    /// twice, and keeps the `rank` leading pairs. It ends early when the subspace is exhausted.
    ///
    /// # Errors
    /// What the products meet, and a small eigenproblem that does not converge.
    pub fn new<B: Backend<Tensor = T>>(
        backend: &B,
        a: &impl LinearOperator<B>,
        like: &[T],
        (steps, rank): (usize, usize),
        seed: u64,
    ) -> Result<Self> {
        let mut basis = vec![random(backend, like, seed)?];
        let (mut diagonal, mut beside): (Vec<f64>, Vec<f64>) = (Vec::new(), Vec::new());
        while diagonal.len() < steps {
            let last = &basis[basis.len() - 1];
            let mut next = a.apply(last)?;
            diagonal.push(dot(backend, last, &next)?);
            for _ in 0..2 {
                for q in &basis {
                    let along = dot(backend, q, &next)?;
                    axpy(backend, -along, q, &mut next)?;
                }
            }
            let size = dot(backend, &next, &next)?.sqrt();
            let largest = diagonal.iter().chain(&beside).fold(0.0_f64, |m, x| m.max(x.abs()));
            if diagonal.len() == steps || size.is_nan() || size <= 1e-7 * largest {
                break;
            }
            scale(backend, 1.0 / size, &mut next);
            beside.push(size);
            basis.push(next);
        }
        Self::ritz(backend, &basis, &diagonal, &beside, rank)
    }

    fn ritz<B: Backend<Tensor = T>>(
        backend: &B,
        basis: &[Vec<T>],
        diagonal: &[f64],
        beside: &[f64],
        rank: usize,
    ) -> Result<Self> {
        let n = diagonal.len();
        let t = Mat::from_fn(n, n, |i, j| match i.abs_diff(j) {
            0 => diagonal[i],
            1 => beside[i.min(j)],
            _ => 0.0,
        });
        let eigen = t.self_adjoint_eigen(Side::Lower).map_err(|_| CurvatureError::Krylov { steps: n })?;
        let (mut values, mut vectors) = (Vec::new(), Vec::new());
        for k in (0..n).rev().take(rank) {
            let mut u = zeros_like(backend, &basis[0]);
            for (i, q) in basis.iter().enumerate().take(n) {
                axpy(backend, eigen.U()[(i, k)], q, &mut u)?;
            }
            values.push(eigen.S().column_vector()[k]);
            vectors.push(u);
        }
        Ok(Self { values, vectors })
    }

    /// (A + λI)⁻¹ v, with curvature 0 outside of the subspace: Σ_i u_i ⟨u_i, v⟩ (1/(θ_i + λ) − 1/λ) + v/λ. (Schioppa et al.
    /// drop what lies outside; for λ > 0 keeping it makes this exact in the limit.)
    ///
    /// # Errors
    /// A direction of other shapes.
    pub fn solve<B: Backend<Tensor = T>>(&self, backend: &B, v: &[T], lambda: f64) -> Result<Vec<T>> {
        let mut x = v.to_vec();
        scale(backend, 1.0 / lambda, &mut x);
        for (theta, u) in self.values.iter().zip(&self.vectors) {
            let along = dot(backend, u, v)?;
            axpy(backend, along * (1.0 / (theta.max(0.0) + lambda) - 1.0 / lambda), u, &mut x)?;
        }
        Ok(x)
    }
}
