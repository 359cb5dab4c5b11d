//! ASTRA: a stochastic series that EK-FAC preconditions, on what is left of each query.

use etymon_tensor::Backend;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::direction::{axpy, dot, views, zeros_like};
use super::series::Series;
use super::{Damped, GaussNewton, LinearOperator, Solution};
use crate::{CurvatureError, Result, Stuck};

/// β of the series.
const MOMENTUM: f64 = 0.8;
/// Passes over the set that a round has at least, beside the product at its end: where steps make fewer, there is one round.
const PASSES_OF_ROUND: usize = 2;
/// Rounds at most.
const MOST_ROUNDS: usize = 32;
/// Share of a correction that its line search must leave for the series to be taken as convergent.
const TRUSTED: f64 = 0.5;

/// How far, and how fast.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AstraOptions {
    /// Steps of one part of the set each, in all rounds together.
    pub steps: usize,
    /// Ends a query whose ‖v − (G + λI) x‖ / ‖v‖ is at most this after a round.
    pub tolerance: f64,
    /// α of the first round: below 1 over the largest eigenvalue of P (G_b + λI) of every part b.
    pub step_size: f64,
    /// Of the order of parts.
    pub seed: u64,
}

/// What is known of one right-hand side.
struct Search<T> {
    /// ‖v‖².
    square: f64,
    x: Vec<T>,
    /// v − (G + λI) x.
    rest: Vec<T>,
    alpha: f64,
    /// The last correction d that was finite, (G + λI) d, and dᵀ(G + λI)d.
    last: Option<(Vec<T>, Vec<T>, f64)>,
    products: f64,
    residuals: Vec<f64>,
}

/// (G + λI)⁻¹ v for each v of `vs` by the stochastic Neumann series that P ≈ (G + λI)⁻¹ preconditions (ASTRA, 2507.14740), with
/// additions of ours, without which it takes ten times as many products (docs/convergence.md). The series has momentum, and begins
/// with α P v, not P v: where P is many times too large, so would be the start. It runs in rounds, each on what the ones
/// before have left of v (iterative refinement), so that the noise of the parts shrinks with it. A round ends with a product
/// over the whole set, by which its correction is made conjugate to the one before and taken at its best length, as directions are in
/// conjugate gradients. So even a series that diverges leads no step away from the solution; a length far below 1 tells of
/// it, upon which α is halved.
///
/// # Errors
/// What the products meet, and [`CurvatureError::Solve`] where the series overflowed in every round.
pub fn astra<B: Backend>(
    g: &GaussNewton<'_, B>,
    lambda: &[f64],
    vs: &[&[B::Tensor]],
    preconditioner: Option<&dyn LinearOperator<B>>,
    options: AstraOptions,
) -> Result<Vec<Solution<B::Tensor>>> {
    let backend = g.model().backend();
    let series = Series { g, lambda, preconditioner, momentum: MOMENTUM };
    let n_examples = g.n_examples().max(1) as f64;
    let new = |v: &&[B::Tensor]| Search::new(backend, v, options.step_size);
    let mut searches = vs.iter().map(new).collect::<Result<Vec<_>>>()?;
    let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
    let n = rounds(g, options.steps);
    for round in 0..n {
        let steps = (round + 1) * options.steps / n - round * options.steps / n;
        let mut open: Vec<_> = searches.iter_mut().filter(|s| s.is_open(options.tolerance)).collect();
        if open.is_empty() {
            break;
        }
        let rests: Vec<&[B::Tensor]> = open.iter().map(|search| &search.rest[..]).collect();
        let alphas: Vec<f64> = open.iter().map(|search| search.alpha).collect();
        let (corrections, examples) = series.run(&rests, &alphas, steps, &mut rng)?;
        let products = Damped { backend, inner: g, lambda }.apply_all(&views(&corrections))?;
        for ((search, d), product) in open.iter_mut().zip(corrections).zip(products) {
            search.products += examples as f64 / n_examples + 1.0;
            search.advance(backend, (d, product))?;
        }
    }
    searches.into_iter().enumerate().map(|(right_side, search)| search.solution(right_side)).collect()
}

/// As many rounds as have enough passes each, but one at least.
fn rounds<B: Backend>(g: &GaussNewton<'_, B>, steps: usize) -> usize {
    (steps / (PASSES_OF_ROUND * g.n_parts().max(1))).clamp(1, MOST_ROUNDS).min(steps)
}

impl<T: Clone> Search<T> {
    fn new<B: Backend<Tensor = T>>(backend: &B, v: &[T], alpha: f64) -> Result<Self> {
        let (square, x, rest) = (dot(backend, v, v)?, zeros_like(backend, v), v.to_vec());
        Ok(Self { square, x, rest, alpha, last: None, products: 0.0, residuals: Vec::new() })
    }

    fn is_open(&self, tolerance: f64) -> bool {
        self.residuals.last().is_none_or(|residual| *residual > tolerance)
    }

    /// Takes of a correction d, with its product (G + λI) d, what brings x closest to the solution.
    fn advance<B: Backend<Tensor = T>>(&mut self, backend: &B, (mut d, mut product): (Vec<T>, Vec<T>)) -> Result<()> {
        if let Some((last, of_last, curvature)) = &self.last {
            let along = dot(backend, &d, of_last)? / curvature;
            axpy(backend, -along, last, &mut d)?;
            axpy(backend, -along, of_last, &mut product)?;
        }
        let curvature = dot(backend, &d, &product)?;
        let length = dot(backend, &d, &self.rest)? / curvature;
        if curvature > 0.0 && length.is_finite() {
            axpy(backend, length, &d, &mut self.x)?;
            axpy(backend, -length, &product, &mut self.rest)?;
            self.last = Some((d, product, curvature));
        }
        if length.is_nan() || length <= TRUSTED {
            self.alpha *= 0.5;
        }
        let left = dot(backend, &self.rest, &self.rest)?;
        self.residuals.push(if self.square == 0.0 { 0.0 } else { (left / self.square).sqrt() });
        Ok(())
    }

    fn solution(self, right_side: usize) -> Result<Solution<T>> {
        let Self { x, last, products, residuals, .. } = self;
        if last.is_none() && residuals.last().is_some_and(|residual| *residual != 0.0) {
            return Err(CurvatureError::Solve { right_side, products, problem: Stuck::NotFinite });
        }
        Ok(Solution { x, products, residuals })
    }
}
