//! TracIn-CP as a simulator: scores that are given, of which the scale is fitted.

use etymon_evaluate::Stream;
use etymon_model::normal;

use super::design::{every, intervals};
use super::lambda::{Chosen, FOLDS, band_scale};
use super::{FitOptions, Fitted, first_losses, require_intervals};
use crate::kind::{Kind, Unseen};
use crate::recorded::{Recorded, Run};
use crate::roll_out::{Dynamics, QUARTERS};
use crate::simulator::{Bands, Effects, Simulator};
use crate::{Result, SimulateError};

/// Fits κ of [`Kind::TracinCp`] to `scores` `[n, Q]` (positive = proponent), by least squares of all-steps errors: a roll-out is
/// linear in κ. So the unit of the scores, the number of checkpoints, and how the optimizer scales gradients make no difference.
/// It is the best scale for the fitted runs.
///
/// Examples that no run contained have their scores too: with [`Unseen::Mean`] these are used, no mean. Of the options only
/// `unseen`, `draws` and `seed` count.
///
/// # Errors
/// Scores for other examples or queries, scores that are not finite or all 0, runs without an interval between measurements.
pub fn fit_scores(recorded: &Recorded, scores: &[f64], options: &FitOptions) -> Result<Fitted> {
    check(recorded, scores)?;
    let on = |part: &Recorded, unseen, band_scale| -> Result<(f64, Simulator)> {
        let scale = Scale::fit(part, scores)?;
        Ok((scale.kappa, scale.simulator(part, scores, &FitOptions { unseen, ..*options }, band_scale)))
    };
    let folds = FOLDS.min(recorded.runs.len());
    let (mut scales, mut n_validated) = ([1.0; QUARTERS], 0);
    if options.draws > 0 && folds > 1 {
        scales = band_scale(recorded, folds, |part| Ok(on(part, Unseen::Mean, [1.0; QUARTERS])?.1))?;
        n_validated = recorded.runs.len();
    }
    let (kappa, simulator) = on(recorded, options.unseen, scales)?;
    let chosen =
        Chosen { lambda: 0.0, memory: 0.0, scale: Some(kappa), tried: Vec::new(), n_validated, band_scale: scales };
    Ok(Fitted { simulator, chosen, solver: None })
}

fn check(recorded: &Recorded, scores: &[f64]) -> Result<()> {
    let (n, queries) = (recorded.train_ids.len(), recorded.query_ids.len());
    if scores.len() != n * queries {
        return Err(SimulateError::ScoreShape { got: scores.len(), n, queries });
    }
    if let Some(at) = scores.iter().position(|s| !s.is_finite()) {
        let (id, query) = (recorded.train_ids[at / queries].clone(), recorded.query_ids[at % queries].clone());
        return Err(SimulateError::Score { id, query, score: scores[at] });
    }
    require_intervals(recorded)
}

/// κ, and what is left.
struct Scale {
    kappa: f64,
    /// The variance of κ, were the errors of the steps independent.
    variance: f64,
    /// `[Q]` The variance of the residuals of a step.
    noise: Vec<f64>,
}

impl Scale {
    fn fit(recorded: &Recorded, scores: &[f64]) -> Result<Self> {
        let n_queries = recorded.query_ids.len();
        // Of the losses since the first one: Σ x y and Σ x².
        let (mut product, mut square) = (0.0, 0.0);
        for run in &recorded.runs {
            let mut so_far = vec![0.0; n_queries];
            for (to, x) in run.losses.chunks_exact(n_queries).skip(1).zip(steps(run, scores, n_queries)) {
                for (q, x) in x.iter().enumerate() {
                    so_far[q] += x;
                    product += so_far[q] * (to[q] - run.losses[q]);
                    square += so_far[q] * so_far[q];
                }
            }
        }
        if square == 0.0 {
            return Err(SimulateError::NoScale);
        }
        let kappa = product / square;
        let (noise, squares) = residuals(recorded, scores, kappa);
        let (weighted, sum) = noise.iter().zip(&squares).fold((0.0, 0.0), |(w, s), (n, x)| (w + n * x, s + x));
        Ok(Self { kappa, variance: weighted / (sum * sum), noise })
    }

    fn simulator(&self, on: &Recorded, scores: &[f64], options: &FitOptions, scale: [f64; QUARTERS]) -> Simulator {
        let times = |factor: f64| Effects { a: Vec::new(), b: scores.iter().map(|s| -factor * s).collect() };
        let draw = |k: usize| times(self.variance.sqrt() * normal(&mut Stream::Posterior.rng(options.seed, k as u64)));
        let bands = Bands { noise: self.noise.clone(), draws: (0..options.draws).map(draw).collect(), scale };
        Simulator {
            kind: Kind::TracinCp,
            train_ids: on.train_ids.clone(),
            query_ids: on.query_ids.clone(),
            counts: on.counts(),
            unseen: options.unseen,
            first_losses: first_losses(on),
            lambda: 0.0,
            dynamics: Dynamics { every: every(on), memory: 0.0, by_rate: Kind::TracinCp.by_rate() },
            effects: times(self.kappa),
            bands: (options.draws > 0).then_some(bands),
        }
    }
}

/// `[measured − 1][Q]` −Σ η_t Σ_{i∈c_t} S_i of the steps between two measurements.
fn steps<'a>(run: &'a Run, scores: &'a [f64], n_queries: usize) -> impl Iterator<Item = Vec<f64>> + 'a {
    intervals(run).map(move |(from, to)| {
        let mut sum = vec![0.0; n_queries];
        for (batch, rate) in run.curriculum.batches[from..to].iter().zip(&run.curriculum.learning_rates[from..to]) {
            for &i in batch {
                let of = &scores[i * n_queries..(i + 1) * n_queries];
                sum.iter_mut().zip(of).for_each(|(sum, s)| *sum -= rate * s);
            }
        }
        sum
    })
}

/// `[Q]` Mean squares of the residuals of single steps, and Σ x² of these.
fn residuals(recorded: &Recorded, scores: &[f64], kappa: f64) -> (Vec<f64>, Vec<f64>) {
    let n_queries = recorded.query_ids.len();
    let (mut left, mut squares, mut rows) = (vec![0.0; n_queries], vec![0.0; n_queries], 0.0);
    for run in &recorded.runs {
        let losses: Vec<&[f64]> = run.losses.chunks_exact(n_queries).collect();
        for (pair, x) in losses.windows(2).zip(steps(run, scores, n_queries)) {
            rows += 1.0;
            for (q, x) in x.iter().enumerate() {
                left[q] += (pair[1][q] - pair[0][q] - kappa * x).powi(2);
                squares[q] += x * x;
            }
        }
    }
    left.iter_mut().for_each(|left| *left /= f64::max(rows, 1.0));
    (left, squares)
}
