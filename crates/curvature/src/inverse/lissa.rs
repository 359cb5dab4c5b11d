//! LiSSA.

use etymon_tensor::Backend;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::direction::{axpy, relative_residuals, zeros_like};
use super::series::Series;
use super::{Damped, GaussNewton, Solution};
use crate::Result;

/// How far, and how fast.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LissaOptions {
    /// Steps of one part of the set each.
    pub steps: usize,
    /// α: below 2 over the largest eigenvalue of G_b + λI of every part b.
    pub step_size: f64,
    /// Independent runs that are averaged.
    pub repeats: usize,
    /// Of the order of parts.
    pub seed: u64,
}

/// x ← x + α (v − (G_b + λI) x) from α v over random parts b of the set, averaged over repeats and over the last half of the steps, for
/// each v of `vs`, which see the same parts (Agarwal et al. 2017, whose recursion is that of x / α). Averaging the last half is ours.
/// The residual is measured at the end, by one more product over the whole set.
///
/// # Errors
/// What the products meet, and [`CurvatureError::Solve`](crate::CurvatureError::Solve) where the series diverges until numbers
/// overflow.
pub fn lissa<B: Backend>(
    g: &GaussNewton<'_, B>,
    lambda: &[f64],
    vs: &[&[B::Tensor]],
    options: LissaOptions,
) -> Result<Vec<Solution<B::Tensor>>> {
    let backend = g.model().backend();
    let series = Series { g, lambda, preconditioner: None, momentum: 0.0 };
    let alphas = vec![options.step_size; vs.len()];
    let mut means: Vec<_> = vs.iter().map(|v| zeros_like(backend, v)).collect();
    let mut examples = 0;
    for repeat in 0..options.repeats {
        let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
        rng.set_stream(repeat as u64);
        let (xs, seen) = series.run(vs, &alphas, options.steps, &mut rng)?;
        examples += seen;
        for (mean, x) in means.iter_mut().zip(&xs) {
            axpy(backend, 1.0 / options.repeats as f64, x, mean)?;
        }
    }
    let products = examples as f64 / g.n_examples().max(1) as f64;
    let residuals = relative_residuals(backend, &Damped { backend, inner: g, lambda }, &means, vs, products)?;
    let solution = |(x, residual)| Solution { x, products: products + 1.0, residuals: vec![residual] };
    Ok(means.into_iter().zip(residuals).map(solution).collect())
}
