//! L-BFGS (Liu & Nocedal 1989) with a line search by interpolation.

use std::collections::VecDeque;

use etymon_tensor::Backend;

use super::minimise::{Stop, norm, ratio};
use super::objective::{Point, Proximal};
use super::{Result, vectors};

/// Pairs that are kept.
const PAIRS: usize = 20;
/// Part of the predicted decrease that a step must reach.
const DECREASE: f64 = 1e-4;
/// Trials of one line search.
const TRIALS: usize = 30;

/// A step s, the change y of the gradient along it, and 1 / (s·y).
struct Pair<B: Backend> {
    s: Vec<B::Tensor>,
    y: Vec<B::Tensor>,
    rho: f64,
}

/// From δ = 0 until the gradient has fallen to `tolerance`, `most` gradients are computed, or no step goes down any more.
pub(super) fn run<B: Backend>(
    of: &Proximal<B>,
    at: &mut impl FnMut(&[B::Tensor]) -> Result<Point<B>>,
    tolerance: f64,
    most: u64,
) -> Result<Stop<B>> {
    let backend = of.base().backend();
    let mut delta = of.start();
    let (mut value, mut gradient) = at(&delta)?;
    let (mut evaluations, mut pairs) = (1, VecDeque::with_capacity(PAIRS));
    let first = norm(of, &gradient)?;
    let mut residual = ratio(first, first);
    while residual > tolerance && evaluations < most {
        let direction = direction(of, &pairs, &gradient)?;
        let slope = vectors::dot(backend, &direction, &gradient)?;
        let Some((next, (next_value, next_gradient), step, trials)) = search(of, at, &delta, value, &direction, slope)?
        else {
            break;
        };
        evaluations += trials;
        let mut y = next_gradient.clone();
        vectors::axpy(backend, -1.0, &gradient, &mut y)?;
        let mut s = direction;
        vectors::scale(backend, step, &mut s);
        let curved = vectors::dot(backend, &s, &y)?;
        if curved > 0.0 {
            if pairs.len() == PAIRS {
                pairs.pop_front();
            }
            pairs.push_back(Pair { s, y, rho: 1.0 / curved });
        }
        (delta, value, gradient) = (next, next_value, next_gradient);
        residual = ratio(norm(of, &gradient)?, first);
    }
    Ok(Stop { delta, evaluations, residual })
}

/// −H g by the two loops; H starts as γ/λ with γ of the last pair.
fn direction<B: Backend>(
    of: &Proximal<B>,
    pairs: &VecDeque<Pair<B>>,
    gradient: &[B::Tensor],
) -> Result<Vec<B::Tensor>> {
    let backend = of.base().backend();
    let mut q = gradient.to_vec();
    let mut alphas = Vec::with_capacity(pairs.len());
    for pair in pairs.iter().rev() {
        let alpha = pair.rho * vectors::dot(backend, &pair.s, &q)?;
        vectors::axpy(backend, -alpha, &pair.y, &mut q)?;
        alphas.push(alpha);
    }
    let gamma = match pairs.back() {
        Some(pair) => 1.0 / (pair.rho * vectors::dot_over(backend, &pair.y, &pair.y, of.lambda())?),
        None => 1.0,
    };
    q.iter_mut().zip(of.lambda()).for_each(|(q, lambda)| backend.scale(gamma / lambda, q));
    for (pair, alpha) in pairs.iter().zip(alphas.into_iter().rev()) {
        let beta = pair.rho * vectors::dot(backend, &pair.y, &q)?;
        vectors::axpy(backend, alpha - beta, &pair.s, &mut q)?;
    }
    vectors::scale(backend, -1.0, &mut q);
    Ok(q)
}

type Found<B> = (Vec<<B as Backend>::Tensor>, Point<B>, f64, u64);

/// The first step 1, t, t', … that goes down enough, each the minimum of the parabola through what is known. `None` when
/// rounding leaves none.
fn search<B: Backend>(
    of: &Proximal<B>,
    at: &mut impl FnMut(&[B::Tensor]) -> Result<Point<B>>,
    delta: &[B::Tensor],
    value: f64,
    direction: &[B::Tensor],
    slope: f64,
) -> Result<Option<Found<B>>> {
    let mut step = 1.0;
    for trial in 1..=TRIALS {
        let mut next = delta.to_vec();
        vectors::axpy(of.base().backend(), step, direction, &mut next)?;
        let point = at(&next)?;
        if point.0 <= value + DECREASE * step * slope {
            return Ok(Some((next, point, step, trial as u64)));
        }
        let parabola = -slope * step * step / (2.0 * (point.0 - value - slope * step));
        step = if parabola.is_finite() { parabola.clamp(1e-3 * step, 0.5 * step) } else { 0.1 * step };
    }
    Ok(None)
}
