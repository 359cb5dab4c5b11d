//! The stochastic Neumann series: LiSSA, and with a preconditioner ASTRA.

use etymon_tensor::Backend;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::direction::{axpy, relative_residuals, residual, scale, views, zeros_like};
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

/// x ← x + α P (v − (G_b + λI) x) over random parts b of the set, averaged over repeats and over the last half of the steps, for each
/// v of `vs`, which see the same parts. Without P it is LiSSA (Agarwal et al. 2017, whose recursion is that of x / α) from α v;
/// with P ≈ (G + λI)⁻¹ it is ASTRA (2507.14740) from P v. Averaging the tail is ours: it takes most of the noise of the parts
/// away. The residual is measured at the end, by one more product over the whole set.
///
/// # Errors
/// What the products meet, and [`CurvatureError::Solve`](crate::CurvatureError::Solve) where a series diverges until numbers
/// overflow.
pub fn neumann<B: Backend>(
    g: &GaussNewton<'_, B>,
    lambda: &[f64],
    vs: &[&[B::Tensor]],
    preconditioner: Option<&dyn LinearOperator<B>>,
    options: NeumannOptions,
) -> Result<Vec<Solution<B::Tensor>>> {
    let backend = g.model().backend();
    let precondition = |r: &[B::Tensor]| preconditioner.map_or_else(|| Ok(r.to_vec()), |p| p.apply(r));
    let mut starts = vs.iter().map(|v| precondition(v)).collect::<Result<Vec<_>>>()?;
    if preconditioner.is_none() {
        starts.iter_mut().for_each(|start| scale(backend, options.step_size, start));
    }
    let mut means: Vec<_> = vs.iter().map(|v| zeros_like(backend, v)).collect();
    let (mut examples, tail) = (0, options.steps - options.steps / 2);
    for repeat in 0..options.repeats {
        let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
        rng.set_stream(repeat as u64);
        let mut xs = starts.clone();
        for step in 0..options.steps {
            let part = g.part(pick(g, &mut rng));
            let damped = Damped { backend, inner: &part, lambda };
            let products = damped.apply_all(&views(&xs))?;
            for (((x, mean), v), product) in xs.iter_mut().zip(&mut means).zip(vs).zip(products) {
                axpy(backend, options.step_size, &precondition(&residual(backend, v, &product)?)?, x)?;
                if step >= options.steps / 2 {
                    axpy(backend, 1.0 / (tail * options.repeats) as f64, x, mean)?;
                }
            }
            examples += part.n_examples();
        }
    }
    let products = examples as f64 / g.n_examples().max(1) as f64;
    let residuals = relative_residuals(backend, &Damped { backend, inner: g, lambda }, &means, vs, products)?;
    let solution = |(x, residual)| Solution { x, products: products + 1.0, residuals: vec![residual] };
    Ok(means.into_iter().zip(residuals).map(solution).collect())
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
