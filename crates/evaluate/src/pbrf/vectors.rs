//! Arithmetic of lists of matrices.

use etymon_tensor::Backend;

use super::Result;

/// Σ x·y / w, with a weight for each matrix.
pub fn dot_over<B: Backend>(backend: &B, x: &[B::Tensor], y: &[B::Tensor], weights: &[f64]) -> Result<f64> {
    let mut sum = 0.0;
    for ((x, y), weight) in x.iter().zip(y).zip(weights) {
        sum += backend.dot(x, y)? / weight;
    }
    Ok(sum)
}

/// Σ x·y.
pub fn dot<B: Backend>(backend: &B, x: &[B::Tensor], y: &[B::Tensor]) -> Result<f64> {
    let mut sum = 0.0;
    for (x, y) in x.iter().zip(y) {
        sum += backend.dot(x, y)?;
    }
    Ok(sum)
}

/// y += α x.
pub fn axpy<B: Backend>(backend: &B, alpha: f64, x: &[B::Tensor], y: &mut [B::Tensor]) -> Result<()> {
    x.iter().zip(y).try_for_each(|(x, y)| Ok(backend.axpy(alpha, x, y)?))
}

/// x *= α.
pub fn scale<B: Backend>(backend: &B, alpha: f64, x: &mut [B::Tensor]) {
    x.iter_mut().for_each(|x| backend.scale(alpha, x));
}

/// Zeros of the same shapes.
pub fn zeros_like<B: Backend>(backend: &B, x: &[B::Tensor]) -> Vec<B::Tensor> {
    x.iter().map(|x| backend.zeros(backend.shape(x))).collect()
}
