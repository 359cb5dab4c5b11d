//! The largest eigenvalue, which bounds the step size of a Neumann series.

use etymon_tensor::Backend;

use super::LinearOperator;
use super::direction::{dot, random, scale};
use crate::Result;

/// An estimate of the largest eigenvalue of P A from below, by `steps` power iterations from a random direction with the
/// shapes of `like`; A is symmetric and positive semi-definite, and P (the identity if there is none) symmetric and positive
/// definite.
///
/// # Errors
/// What the products meet.
pub fn largest_eigenvalue<B: Backend>(
    backend: &B,
    a: &dyn LinearOperator<B>,
    p: Option<&dyn LinearOperator<B>>,
    like: &[B::Tensor],
    steps: usize,
    seed: u64,
) -> Result<f64> {
    let mut v = random(backend, like, seed)?;
    let mut value = 0.0;
    for _ in 0..steps {
        let mut next = a.apply(&v)?;
        if let Some(p) = p {
            next = p.apply(&next)?;
        }
        value = dot(backend, &next, &next)?.sqrt();
        if value.is_nan() || value == 0.0 {
            break;
        }
        scale(backend, 1.0 / value, &mut next);
        v = next;
    }
    Ok(value)
}
