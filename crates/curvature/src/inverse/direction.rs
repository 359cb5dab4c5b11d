//! Vectors over the weights of all tapped layers.

use etymon_tensor::{Backend, Shape};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::LinearOperator;
use crate::{CurvatureError, Result, Stuck};

/// Σ over layers of ⟨x, y⟩, in f64.
pub(super) fn dot<B: Backend>(backend: &B, x: &[B::Tensor], y: &[B::Tensor]) -> Result<f64> {
    let mut sum = 0.0;
    for (x, y) in x.iter().zip(y) {
        sum += backend.dot(x, y)?;
    }
    Ok(sum)
}

/// y += alpha x.
pub(super) fn axpy<B: Backend>(backend: &B, alpha: f64, x: &[B::Tensor], y: &mut [B::Tensor]) -> Result<()> {
    for (x, y) in x.iter().zip(y) {
        backend.axpy(alpha, x, y)?;
    }
    Ok(())
}

/// x *= alpha.
pub(super) fn scale<B: Backend>(backend: &B, alpha: f64, x: &mut [B::Tensor]) {
    x.iter_mut().for_each(|x| backend.scale(alpha, x));
}

/// Zeros of the shapes of x.
pub(super) fn zeros_like<B: Backend>(backend: &B, x: &[B::Tensor]) -> Vec<B::Tensor> {
    x.iter().map(|x| backend.zeros(backend.shape(x))).collect()
}

/// v − A x, which is what a solution lacks.
pub(super) fn residual<B: Backend>(backend: &B, v: &[B::Tensor], ax: &[B::Tensor]) -> Result<Vec<B::Tensor>> {
    let mut r = v.to_vec();
    axpy(backend, -1.0, ax, &mut r)?;
    Ok(r)
}

/// ‖v − A x‖ / ‖v‖ of each x and its v (0 where v is), by a product each, `before` being the products that x has taken.
pub(super) fn relative_residuals<B: Backend>(
    backend: &B,
    a: &dyn LinearOperator<B>,
    xs: &[Vec<B::Tensor>],
    vs: &[&[B::Tensor]],
    before: f64,
) -> Result<Vec<f64>> {
    let products = a.apply_all(&views(xs))?;
    let mut relative = Vec::with_capacity(vs.len());
    for (right_side, (product, v)) in products.iter().zip(vs).enumerate() {
        let r = residual(backend, v, product)?;
        let (square, of) = (dot(backend, &r, &r)?, dot(backend, v, v)?);
        if !(square.is_finite() && of.is_finite()) {
            return Err(CurvatureError::Solve { right_side, products: before, problem: Stuck::NotFinite });
        }
        relative.push(if of > 0.0 { (square / of).sqrt() } else { 0.0 });
    }
    Ok(relative)
}

/// The directions, borrowed.
pub(super) fn views<T>(all: &[Vec<T>]) -> Vec<&[T]> {
    all.iter().map(Vec::as_slice).collect()
}

/// The one direction of a list.
pub(super) fn only<T>(all: Vec<Vec<T>>) -> Vec<T> {
    all.into_iter().next().unwrap_or_default()
}

/// A random direction of unit length, with the shapes of `like`.
pub(super) fn random<B: Backend>(backend: &B, like: &[B::Tensor], seed: u64) -> Result<Vec<B::Tensor>> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut fill = |shape: Shape| {
        let numbers: Vec<f64> = (0..shape.len()).map(|_| rng.random::<f64>() - 0.5).collect();
        backend.upload(shape, &numbers)
    };
    let mut v: Vec<B::Tensor> = like.iter().map(|x| fill(backend.shape(x))).collect::<std::result::Result<_, _>>()?;
    let size = dot(backend, &v, &v)?.sqrt();
    scale(backend, 1.0 / size, &mut v);
    Ok(v)
}
