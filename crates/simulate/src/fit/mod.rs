//! Recorded runs → a simulator.

mod design;
mod lambda;
mod lsqr;
mod operator;
mod query;
mod ridge;
mod scores;
#[cfg(test)]
mod tests;

use rayon::prelude::*;

use crate::kind::{Kind, Unseen};
use crate::recorded::Recorded;
use crate::roll_out::QUARTERS;
use crate::simulator::{Bands, Effects, Simulator};
use crate::{Result, SimulateError};
use design::Problem;
use query::QueryFit;

pub use lambda::{Chosen, Tried};
pub use ridge::Solver;
pub use scores::fit_scores;

/// What to fit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FitOptions {
    /// The form.
    pub kind: Kind,
    /// λ > 0 of the ridge; none: chosen by roll-outs of runs that are held out, or by generalised cross-validation where
    /// there is one run.
    pub lambda: Option<f64>,
    /// What to do about unseen train examples.
    pub unseen: Unseen,
    /// Draws from the posterior, for bands; 0: no bands.
    pub draws: usize,
    /// Seed of the stream `posterior`.
    pub seed: u64,
}

impl FitOptions {
    /// λ chosen, unseen examples refused, bands by 16 draws.
    pub fn new(kind: Kind) -> Self {
        Self { kind, lambda: None, unseen: Unseen::Refuse, draws: 16, seed: 0 }
    }
}

/// What a fit did.
#[derive(Clone, Debug, PartialEq)]
pub struct Fitted {
    /// The simulator.
    pub simulator: Simulator,
    /// λ, and how it was chosen.
    pub chosen: Chosen,
    /// How the ridge regressions were solved; none without any.
    pub solver: Option<Solver>,
}

/// Told after each ridge regression of a fit: in which phase, and how many it has.
pub type Progress<'a> = &'a (dyn Fn(Phase, usize) + Sync);

/// A part of a fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Regressions on parts of the runs, to choose λ and to scale the bands.
    Validation,
    /// Those of the simulator.
    Fit,
}

/// Fits a simulator on all runs. Memory: one system per thread (`8 · min(unknowns, rows)²` bytes, unknowns 2n of the linear
/// kind; for more than 16 384 of both, none), and `16 · n · Q · (1 + draws)` bytes for the result.
///
/// # Errors
/// Runs without an interval between measurements, a λ that is not positive, the kind of [`fit_scores`].
pub fn fit(recorded: &Recorded, options: &FitOptions, progress: Progress<'_>) -> Result<Fitted> {
    if options.kind == Kind::TracinCp {
        return Err(SimulateError::NoScores { kind: options.kind.name() });
    }
    if let Some(lambda) = options.lambda.filter(|l| !(l.is_finite() && *l > 0.0)) {
        return Err(SimulateError::Lambda { lambda });
    }
    require_intervals(recorded)?;
    let chosen = lambda::choose(recorded, options, progress)?;
    let problem = Problem::new(recorded, options.kind, chosen.memory);
    let n_queries = recorded.query_ids.len();
    let told = || progress(Phase::Fit, n_queries);
    let (solver, fits) = query::fit_all(&problem, &[chosen.lambda], options.draws, options.seed, &told)?;
    let fits = fits.into_iter().flatten().collect();
    let simulator = assemble(recorded, &problem, options, chosen.lambda, chosen.band_scale, fits);
    Ok(Fitted { simulator, chosen, solver: Some(solver) })
}

fn require_intervals(recorded: &Recorded) -> Result<()> {
    let none = recorded.runs.iter().all(|run| run.measured.len() < 2) || recorded.query_ids.is_empty();
    if none { Err(SimulateError::NoIntervals) } else { Ok(()) }
}

/// A simulator of the fits of its queries.
fn assemble(
    recorded: &Recorded,
    problem: &Problem,
    options: &FitOptions,
    lambda: f64,
    band_scale: [f64; QUARTERS],
    fits: Vec<QueryFit>,
) -> Simulator {
    let counts = recorded.counts();
    let columns = |theta: &dyn Fn(&QueryFit) -> &Vec<f64>| {
        let mut effects = by_example(problem, &fits, theta);
        for part in [&mut effects.a, &mut effects.b] {
            give_mean(part, &counts, fits.len());
        }
        effects
    };
    let effects = columns(&|fit| &fit.theta);
    let draws: Vec<Effects> =
        (0..options.draws).into_par_iter().map(|k| columns(&|fit: &QueryFit| &fit.draws[k])).collect();
    let noise = fits.iter().zip(&problem.units).map(|(fit, unit)| fit.noise * unit * unit).collect();
    Simulator {
        kind: options.kind,
        train_ids: recorded.train_ids.clone(),
        query_ids: recorded.query_ids.clone(),
        counts,
        unseen: options.unseen,
        first_losses: first_losses(recorded),
        lambda,
        dynamics: problem.design.dynamics.clone(),
        effects,
        bands: (options.draws > 0).then_some(Bands { noise, draws, scale: band_scale }),
    }
}

/// `[n, Q]` A and B of the parameters `[p]` of each query.
fn by_example(problem: &Problem, fits: &[QueryFit], theta: &dyn Fn(&QueryFit) -> &Vec<f64>) -> Effects {
    let columns = problem.design.n_columns;
    let shared = problem.kind.has_momentum();
    let n = columns - usize::from(shared);
    let of = |theta: &[f64], start: usize, i: usize| theta[start + i] + if shared { theta[start + n] } else { 0.0 };
    let part = |start: usize, units: &[f64]| {
        let row = |i: usize| fits.iter().zip(units).map(move |(fit, unit)| unit * of(theta(fit), start, i));
        (0..n).flat_map(row).collect::<Vec<f64>>()
    };
    let (has_a, has_b) = (problem.kind.has_a(), problem.kind.has_b());
    Effects {
        a: if has_a { part(0, &vec![1.0; fits.len()]) } else { Vec::new() },
        b: if has_b { part(if has_a { columns } else { 0 }, &problem.units) } else { Vec::new() },
    }
}

/// Gives examples that no run contained the mean of those that one did.
fn give_mean(effects: &mut [f64], counts: &[usize], n_queries: usize) {
    let n_seen = counts.iter().filter(|&&count| count > 0).count();
    if effects.is_empty() || n_seen == 0 || n_seen == counts.len() {
        return;
    }
    let mut mean = vec![0.0; n_queries];
    for (row, _) in effects.chunks_exact(n_queries).zip(counts).filter(|(_, count)| **count > 0) {
        mean.iter_mut().zip(row).for_each(|(mean, x)| *mean += x / n_seen as f64);
    }
    let rows = effects.chunks_exact_mut(n_queries).zip(counts).filter(|(_, count)| **count == 0);
    rows.for_each(|(row, _)| row.copy_from_slice(&mean));
}

fn first_losses(recorded: &Recorded) -> Vec<f64> {
    let n_queries = recorded.query_ids.len();
    let mut mean = vec![0.0; n_queries];
    for run in &recorded.runs {
        let first = run.first_losses(n_queries);
        mean.iter_mut().zip(first).for_each(|(mean, l)| *mean += l / recorded.runs.len() as f64);
    }
    mean
}
