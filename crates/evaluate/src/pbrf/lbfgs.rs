//! L-BFGS (Liu & Nocedal 1989) with a line search by the secant.

use std::collections::VecDeque;

use etymon_tensor::Backend;

use super::leading::Leading;
use super::minimise::{Stop, norm, ratio};
use super::objective::{Point, Proximal};
use super::{Result, vectors};

/// Pairs that are kept.
const PAIRS: usize = 20;
/// Part of the predicted decrease that a step must reach.
const DECREASE: f64 = 1e-4;
/// Part of the slope that a step may leave where values do not tell.
const FLATTER: f64 = 0.9;
/// Rounding of a value, in parts of it and of |ε|: losses are differences of numbers of the order of 1.
const ROUNDING: f64 = 1e-13;
/// Gradients after which the leading curvature at θˢ is given up: the minimum is then where the curvature is another one.
const LED: u64 = 150;
/// Gradients within which the value must fall by the square of the tolerance, in parts of its whole fall, or the least norm of a
/// gradient by half. Where neither does, the minimum is on a kink (of ReLU), at which the gradients of either side stay as they are.
const PATIENCE: u64 = 50;
/// Trials of one line search.
const TRIALS: usize = 30;

/// A step s, the change y of the gradient along it, and 1 / (s·y).
struct Pair<B: Backend> {
    s: Vec<B::Tensor>,
    y: Vec<B::Tensor>,
    rho: f64,
}

/// `unit` is |ε|. From δ = 0 until the gradient has fallen to `tolerance`, `most` gradients are computed, or the value falls
/// no more.
pub(super) fn run<B: Backend>(
    of: &Proximal<B>,
    at: &mut impl FnMut(&[B::Tensor]) -> Result<Point<B>>,
    unit: f64,
    tolerance: f64,
    most: u64,
) -> Result<Stop<B>> {
    let backend = of.base().backend();
    let mut delta = of.start();
    let (mut value, mut gradient) = at(&delta)?;
    let (mut evaluations, mut pairs) = (1, VecDeque::with_capacity(PAIRS));
    let first = norm(of, &gradient)?;
    let mut residual = ratio(first, first);
    let (start, noise) = (value, ROUNDING * (value.abs() + unit));
    let (mut least, mut mark) = (residual, (evaluations, value, residual));
    while residual > tolerance && evaluations < most {
        let leading = of.leading.as_ref().filter(|_| evaluations < LED);
        let direction = direction(of, leading, &pairs, &gradient)?;
        let slope = vectors::dot(backend, &direction, &gradient)?;
        let Some((next, (next_value, next_gradient), step, trials)) =
            search(of, at, &delta, value, &direction, slope, noise)?
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
        least = least.min(residual);
        if evaluations >= mark.0 + PATIENCE {
            if mark.1 - value <= tolerance * tolerance * (start - value) && least > 0.5 * mark.2 {
                break;
            }
            mark = (evaluations, value, least);
        }
    }
    Ok(Stop { delta, evaluations, residual })
}

/// −H g by the two loops; H starts as the inverse of the leading curvature, or as γ/λ with γ of the last pair.
fn direction<B: Backend>(
    of: &Proximal<B>,
    leading: Option<&Leading<B>>,
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
    match (leading, pairs.back()) {
        (Some(leading), _) => leading.divide(backend, of.lambda(), &mut q)?,
        (None, last) => {
            let gamma = match last {
                Some(pair) => 1.0 / (pair.rho * vectors::dot_over(backend, &pair.y, &pair.y, of.lambda())?),
                None => 1.0,
            };
            q.iter_mut().zip(of.lambda()).for_each(|(q, lambda)| backend.scale(gamma / lambda, q));
        }
    }
    for (pair, alpha) in pairs.iter().zip(alphas.into_iter().rev()) {
        let beta = pair.rho * vectors::dot(backend, &pair.y, &q)?;
        vectors::axpy(backend, alpha - beta, &pair.s, &mut q)?;
    }
    vectors::scale(backend, -1.0, &mut q);
    Ok(q)
}

type Found<B> = (Vec<<B as Backend>::Tensor>, Point<B>, f64, u64);

/// The first step 1, t, t', … that goes down enough, each where the slope would be 0 if it changed evenly. What it goes down
/// by can be less than the rounding of the value: then a slope that has fallen decides. `None` when rounding leaves nothing.
fn search<B: Backend>(
    of: &Proximal<B>,
    at: &mut impl FnMut(&[B::Tensor]) -> Result<Point<B>>,
    delta: &[B::Tensor],
    value: f64,
    direction: &[B::Tensor],
    slope: f64,
    noise: f64,
) -> Result<Option<Found<B>>> {
    let backend = of.base().backend();
    let mut step = 1.0;
    for trial in 1..=TRIALS {
        let mut next = delta.to_vec();
        vectors::axpy(backend, step, direction, &mut next)?;
        let point = at(&next)?;
        let next_slope = vectors::dot(backend, direction, &point.1)?;
        let down = point.0 <= value + DECREASE * step * slope;
        let flat = point.0 <= value + noise && next_slope.abs() <= FLATTER * slope.abs();
        if down || flat {
            return Ok(Some((next, point, step, trial as u64)));
        }
        let secant = step * slope / (slope - next_slope);
        step = if secant.is_finite() { secant.clamp(1e-4 * step, 0.5 * step) } else { 0.1 * step };
    }
    Ok(None)
}
