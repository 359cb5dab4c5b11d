//! Conjugate gradients.

use etymon_tensor::Backend;

use super::direction::{axpy, dot, residual, scale, zeros_like};
use super::{LinearOperator, Solution};
use crate::Result;

/// When to stop.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CgOptions {
    /// Most steps, of one product each.
    pub max_steps: usize,
    /// ‖v − A x‖ / ‖v‖ that is enough.
    pub tolerance: f64,
}

/// Solves A x = v, A symmetric positive definite (Hestenes & Stiefel 1952). With a preconditioner P ≈ A⁻¹ it starts at P v,
/// else at 0. It stops early where A is not positive along a search direction, which rounding alone can bring about.
///
/// # Errors
/// What the products meet.
pub fn conjugate_gradient<B: Backend>(
    backend: &B,
    a: &impl LinearOperator<B>,
    v: &[B::Tensor],
    preconditioner: Option<&dyn LinearOperator<B>>,
    options: CgOptions,
) -> Result<Solution<B::Tensor>> {
    let size = dot(backend, v, v)?.sqrt();
    let mut solution = Solution { x: zeros_like(backend, v), products: 0.0, residuals: Vec::new() };
    if size == 0.0 {
        return Ok(solution);
    }
    let precondition = |r: &[B::Tensor]| preconditioner.map_or_else(|| Ok(r.to_vec()), |p| p.apply(r));
    let mut r = v.to_vec();
    if preconditioner.is_some() {
        solution.x = precondition(v)?;
        r = residual(backend, v, &a.apply(&solution.x)?)?;
        solution.products = 1.0;
        solution.residuals.push(dot(backend, &r, &r)?.sqrt() / size);
    }
    let mut z = precondition(&r)?;
    let mut direction = z.clone();
    let mut slope = dot(backend, &r, &z)?;
    while (solution.products as usize) < options.max_steps
        && solution.residuals.last().is_none_or(|&last| last > options.tolerance)
    {
        let product = a.apply(&direction)?;
        solution.products += 1.0;
        let curvature = dot(backend, &direction, &product)?;
        if curvature.is_nan() || curvature <= 0.0 || slope <= 0.0 {
            break;
        }
        let step = slope / curvature;
        axpy(backend, step, &direction, &mut solution.x)?;
        axpy(backend, -step, &product, &mut r)?;
        solution.residuals.push(dot(backend, &r, &r)?.sqrt() / size);
        z = precondition(&r)?;
        let next = dot(backend, &r, &z)?;
        scale(backend, next / slope, &mut direction);
        axpy(backend, 1.0, &z, &mut direction)?;
        slope = next;
    }
    Ok(solution)
}
