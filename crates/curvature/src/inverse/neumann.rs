//! The stochastic Neumann series: LiSSA, and with a preconditioner ASTRA.

use etymon_tensor::Backend;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::direction::{axpy, residual, scale, zeros_like};
use super::{Damped, GaussNewton, LinearOperator, Solution};
use crate::Result;

/// How far, and how fast.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NeumannOptions {
    /// Steps of one part of the set each.
    pub steps: usize,
    /// α: below 2 over the largest eigenvalue of P (G_b + λI) of every part b.
    pub step_size: f64,
    /// Independent runs that are averaged.
    pub repeats: usize,
    /// Of the order of parts.
    pub seed: u64,
}

/// x ← x + α P (v − (G_b + λI) x) over random parts b of the set, averaged over repeats and over the last half of the steps. Without P
/// it is LiSSA (Agarwal et al. 2017, whose recursion is that of x / α) from α v; with P ≈ (G + λI)⁻¹ it is ASTRA
/// (2507.14740) from P v. Averaging the tail is ours: it takes most of the noise of the parts away.
///
/// # Errors
/// What the products meet.
pub fn neumann<B: Backend>(
    g: &GaussNewton<'_, B>,
    lambda: &[f64],
    v: &[B::Tensor],
    preconditioner: Option<&dyn LinearOperator<B>>,
    options: NeumannOptions,
) -> Result<Solution<B::Tensor>> {
    let backend = g.model().backend();
    let precondition = |r: &[B::Tensor]| preconditioner.map_or_else(|| Ok(r.to_vec()), |p| p.apply(r));
    let mut start = precondition(v)?;
    if preconditioner.is_none() {
        scale(backend, options.step_size, &mut start);
    }
    let (mut mean, mut examples) = (zeros_like(backend, v), 0);
    let tail = options.steps - options.steps / 2;
    for repeat in 0..options.repeats {
        let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
        rng.set_stream(repeat as u64);
        let mut x = start.clone();
        for step in 0..options.steps {
            let part = g.part(pick(g, &mut rng));
            let damped = Damped { backend, inner: &part, lambda };
            let lacking = residual(backend, v, &damped.apply(&x)?)?;
            axpy(backend, options.step_size, &precondition(&lacking)?, &mut x)?;
            examples += part.n_examples();
            if step >= options.steps / 2 {
                axpy(backend, 1.0 / (tail * options.repeats) as f64, &x, &mut mean)?;
            }
        }
    }
    Ok(Solution { x: mean, products: examples as f64 / g.n_examples().max(1) as f64, residuals: Vec::new() })
}

/// A part, with the probability of its share of the examples.
fn pick<B: Backend>(g: &GaussNewton<'_, B>, rng: &mut ChaCha8Rng) -> usize {
    let mut left = rng.random::<f64>() * g.n_examples() as f64;
    for part in 0..g.n_parts() {
        left -= g.part(part).n_examples() as f64;
        if left < 0.0 {
            return part;
        }
    }
    g.n_parts().saturating_sub(1)
}
