//! From the first losses and a curriculum alone to the losses at every step.

use rayon::prelude::*;

use crate::curriculum::Curriculum;
use crate::simulator::{Bands, Effects};

/// Half the width of a normal 90 % interval, in standard deviations.
pub(crate) const Z90: f64 = 1.644_853_626_951_472_2;

/// Parts of a run of which bands have a scale of their own.
pub const QUARTERS: usize = 4;

/// The quarter of a run that a measurement before `step` ≥ 1 belongs to; step 0 counts to the first one.
pub(crate) fn quarter(step: usize, n_steps: usize) -> usize {
    (QUARTERS * step.saturating_sub(1) / n_steps.max(1)).min(QUARTERS - 1)
}

/// A simulated run.
#[derive(Clone, Debug, PartialEq)]
pub struct RollOut {
    /// `[T + 1, Q]` The loss of every query before every step, and after the last one.
    pub losses: Vec<f64>,
    /// `[T + 1, Q]` 5 % of the losses are below; empty for a simulator without bands.
    pub lower: Vec<f64>,
    /// `[T + 1, Q]` 5 % of the losses are above; empty for a simulator without bands.
    pub upper: Vec<f64>,
    /// Train examples of the curriculum that no fitted run contained, ascending.
    pub unseen: Vec<usize>,
}

/// How effects become losses.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Dynamics {
    /// Steps between two measurements of the fitted runs, which are one step of the simulator: α and β are those of all its
    /// batches together. On the way through such a step L is linear in the part that is done.
    pub every: usize,
    /// γ, the part of the last whole step's change that goes on.
    pub memory: f64,
    /// Whether effects are multiplied with the learning rate of their step.
    pub by_rate: bool,
}

/// Where a walk through a curriculum is.
struct Place<'a> {
    /// `[Q]` α − 1 of the batches since the last whole step of the simulator.
    a: &'a [f64],
    /// `[Q]` β of them.
    b: &'a [f64],
    /// The part of a whole step that is done, 0 < part ≤ 1.
    part: f64,
    /// Whether no batch since the last whole step had an example: nothing changes, and momentum waits.
    idle: bool,
}

impl Dynamics {
    /// Adds up effects, by `add` of (example, weight, α − 1, β), and shows `see` the sums after every step of the curriculum.
    fn walk(
        &self,
        curriculum: &Curriculum,
        n_queries: usize,
        add: impl Fn(usize, f64, &mut [f64], &mut [f64]),
        mut see: impl FnMut(&Place<'_>),
    ) {
        let (mut a, mut b, mut idle) = (vec![0.0; n_queries], vec![0.0; n_queries], true);
        for (t, (batch, rate)) in curriculum.batches.iter().zip(&curriculum.learning_rates).enumerate() {
            if t % self.every == 0 {
                a.fill(0.0);
                b.fill(0.0);
                idle = true;
            }
            idle &= batch.is_empty();
            let weight = if self.by_rate { *rate } else { 1.0 };
            batch.iter().for_each(|&i| add(i, weight, &mut a, &mut b));
            let part = (t % self.every + 1) as f64 / self.every as f64;
            see(&Place { a: &a, b: &b, part, idle });
        }
    }

    /// `[T + 1, Q]` The losses.
    pub fn losses(
        &self,
        curriculum: &Curriculum,
        first: &[f64],
        add: impl Fn(usize, f64, &mut [f64], &mut [f64]),
    ) -> Vec<f64> {
        let q = first.len();
        let mut out = Vec::with_capacity((curriculum.n_steps() + 1) * q);
        out.extend_from_slice(first);
        let (mut base, mut change) = (first.to_vec(), vec![0.0; q]);
        self.walk(curriculum, q, add, |place| {
            if place.idle {
                out.extend_from_slice(&base);
                return;
            }
            let goes_on = self.memory * place.part;
            let now = out.len();
            out.extend((0..q).map(|k| base[k] + goes_on * change[k] + base[k] * place.a[k] + place.b[k]));
            if place.part == 1.0 {
                (0..q).for_each(|k| change[k] = out[now + k] - base[k]);
                base.copy_from_slice(&out[now..]);
            }
        });
        out
    }

    /// `[T + 1, Q]` The variance that independent noise of variance `noise` `[Q]` per whole step leaves in the losses.
    pub fn noise(
        &self,
        curriculum: &Curriculum,
        noise: &[f64],
        add: impl Fn(usize, f64, &mut [f64], &mut [f64]),
    ) -> Vec<f64> {
        let q = noise.len();
        let mut out = Vec::with_capacity((curriculum.n_steps() + 1) * q);
        out.resize(q, 0.0);
        // Of errors e of L and d of its last change: variances and covariance of (e, d) → (e + d', d'), d' = γ d + a e + noise.
        let mut moments = vec![[0.0; 3]; q];
        self.walk(curriculum, q, add, |place| {
            if place.idle {
                out.extend(moments.iter().map(|m| m[0]));
                return;
            }
            let goes_on = self.memory * place.part;
            for k in 0..q {
                let ([ee, ed, dd], a) = (moments[k], place.a[k]);
                let change = goes_on * goes_on * dd + 2.0 * goes_on * a * ed + a * a * ee + noise[k] * place.part;
                let mixed = goes_on * ed + a * ee;
                let now = [ee + 2.0 * mixed + change, mixed + change, change];
                out.push(now[0]);
                if place.part == 1.0 {
                    moments[k] = now;
                }
            }
        });
        out
    }
}

/// `[T + 1, Q]` The variance of simulated losses: that of the draws from the posterior, and that of the noise.
pub(crate) fn variance(
    dynamics: &Dynamics,
    effects: &Effects,
    bands: &Bands,
    curriculum: &Curriculum,
    losses: &[f64],
) -> Vec<f64> {
    let q = bands.noise.len();
    let first = &losses[..q];
    let noise = dynamics.noise(curriculum, &bands.noise, |i, weight, a, b| effects.add(i, weight, a, b));
    let squares = |draw: &Effects| {
        let drawn = dynamics.losses(curriculum, first, |i, weight, a, b| {
            effects.add(i, weight, a, b);
            draw.add(i, weight, a, b);
        });
        drawn.iter().zip(losses).map(|(x, l)| (x - l).powi(2)).collect::<Vec<f64>>()
    };
    // In the order of the draws, whatever the threads do.
    let drawn: Vec<Vec<f64>> = bands.draws.par_iter().map(squares).collect();
    let share = 1.0 / drawn.len().max(1) as f64;
    drawn.iter().fold(noise, |mut sum, squares| {
        sum.iter_mut().zip(squares).for_each(|(s, x)| *s += share * x);
        sum
    })
}
