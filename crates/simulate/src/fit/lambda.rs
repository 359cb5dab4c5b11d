//! Which λ: by roll-outs of runs that are held out of the fit; of a single run by generalised cross-validation.

use faer::{MatRef, Side};

use super::design::{Design, Problem};
use super::operator::Operator;
use super::{FitOptions, Phase, Progress, assemble, query};
use crate::judge::{Error, errors, mean_square};
use crate::kind::Unseen;
use crate::recorded::Recorded;
use crate::roll_out::QUARTERS;
use crate::simulator::Simulator;
use crate::{Result, SimulateError};

/// Parts of the runs, each held out once.
pub(super) const FOLDS: usize = 4;
/// Queries of the validation, evenly spread.
const MOST_QUERIES: usize = 32;
/// λ are tried from 10^(first/2) to 10^(last/2) times the mean of Σ times² of the train examples.
const EXPONENTS: std::ops::RangeInclusive<i32> = -8..=4;
/// γ that are tried for a simulator with momentum.
const MEMORIES: [f64; 7] = [0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95];
/// Rows of generalised cross-validation, which decomposes a matrix of rows².
const MOST_ROWS: usize = 4096;

/// A λ that was tried.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tried {
    /// λ.
    pub lambda: f64,
    /// All-steps mean squared error of the held-out runs in nats², or the criterion of generalised cross-validation.
    pub error: f64,
}

/// λ, and how it was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Chosen {
    /// λ; 0 of a kind without one.
    pub lambda: f64,
    /// γ of the momentum kind; 0 of others, and of a single run.
    pub memory: f64,
    /// κ of the TracIn-CP kind; none of others.
    pub scale: Option<f64>,
    /// What was tried; empty where λ was given.
    pub tried: Vec<Tried>,
    /// Runs that were held out in turn; 0 of a single run.
    pub n_validated: usize,
    /// What standard deviations are multiplied with so that 90 % bands hold 90 % of the held-out losses, in each
    /// quarter of the runs; 1 where no run was held out.
    pub band_scale: [f64; QUARTERS],
}

/// What is validated: some of the queries, the runs in folds of which each is held out once.
struct Validation<'a> {
    recorded: Recorded,
    folds: usize,
    options: &'a FitOptions,
    told: &'a (dyn Fn() + Sync),
}

pub(super) fn choose(recorded: &Recorded, options: &FitOptions, progress: Progress<'_>) -> Result<Chosen> {
    let recorded = sample(recorded);
    let folds = FOLDS.min(recorded.runs.len());
    if folds < 2 {
        return of_one_run(&recorded, options);
    }
    let memories: &[f64] = if options.kind.has_momentum() { &MEMORIES } else { &[0.0] };
    let searches = usize::from(options.lambda.is_none()) + if memories.len() > 1 { memories.len() } else { 0 };
    let total = (searches + usize::from(options.draws > 0)) * folds * recorded.query_ids.len();
    let told = || progress(Phase::Validation, total);
    let lambdas =
        options.lambda.map_or_else(|| grid(&Design::new(&recorded, options.kind, 0.0)), |lambda| vec![lambda]);
    let validation = Validation { recorded, folds, options, told: &told };
    // λ without memory first, then γ with this λ.
    let tried = if options.lambda.is_none() { validation.tried(0.0, &lambdas)? } else { Vec::new() };
    let lambda = options.lambda.map_or_else(|| best(&tried), Ok)?;
    let mut memory = 0.0;
    if memories.len() > 1 {
        let error = |&m: &f64| Ok((m, validation.tried(m, &[lambda])?[0].error));
        let errors = memories.iter().map(error).collect::<Result<Vec<_>>>()?;
        let least = errors.iter().filter(|(_, error)| error.is_finite()).min_by(|x, y| x.1.total_cmp(&y.1));
        memory = least.map_or(0.0, |(m, _)| *m);
    }
    let band_scale = if options.draws > 0 { validation.band_scale(memory, lambda)? } else { [1.0; QUARTERS] };
    Ok(Chosen { lambda, memory, scale: None, tried, n_validated: validation.recorded.runs.len(), band_scale })
}

impl Validation<'_> {
    /// The all-steps error of each λ on the runs held out in turn.
    fn tried(&self, memory: f64, lambdas: &[f64]) -> Result<Vec<Tried>> {
        let mut tried: Vec<Tried> = lambdas.iter().map(|&lambda| Tried { lambda, error: 0.0 }).collect();
        for fold in 0..self.folds {
            for (t, simulator) in tried.iter_mut().zip(&self.of_fold(fold, memory, lambdas, 0)?) {
                t.error += mean_square(&held_out(&self.recorded, (fold, self.folds), simulator)?) / self.folds as f64;
            }
        }
        Ok(tried)
    }

    fn band_scale(&self, memory: f64, lambda: f64) -> Result<[f64; QUARTERS]> {
        let one = |fitted: &Recorded| {
            let simulators = self.on(fitted, memory, &[lambda], self.options.draws)?;
            simulators.into_iter().next().ok_or(SimulateError::NoLambda)
        };
        band_scale(&self.recorded, self.folds, one)
    }

    /// A simulator for each λ, fitted on the runs that are not in a fold.
    fn of_fold(&self, fold: usize, memory: f64, lambdas: &[f64], draws: usize) -> Result<Vec<Simulator>> {
        self.on(&without(&self.recorded, (fold, self.folds)), memory, lambdas, draws)
    }

    /// A simulator for each λ, fitted on some runs.
    fn on(&self, part: &Recorded, memory: f64, lambdas: &[f64], draws: usize) -> Result<Vec<Simulator>> {
        let options = FitOptions { unseen: Unseen::Mean, draws, ..*self.options };
        let problem = Problem::new(part, options.kind, memory);
        let (_, fits) = query::fit_all(&problem, lambdas, draws, options.seed, self.told)?;
        let each = lambdas.iter().zip(fits);
        Ok(each.map(|(&l, fits)| assemble(part, &problem, &options, l, [1.0; QUARTERS], fits)).collect())
    }
}

/// What makes bands hold 90 % of the losses of runs held out in turn, in each quarter of the runs, of simulators that are
/// fitted by `fit` on the others.
pub(super) fn band_scale(
    recorded: &Recorded,
    folds: usize,
    fit: impl Fn(&Recorded) -> Result<Simulator>,
) -> Result<[f64; QUARTERS]> {
    let mut relative: [Vec<f64>; QUARTERS] = Default::default();
    for fold in 0..folds {
        let simulator = fit(&without(recorded, (fold, folds)))?;
        held_out(recorded, (fold, folds), &simulator)?.iter().for_each(|e| relative[e.quarter].push(e.relative()));
    }
    Ok(relative.map(conformal))
}

/// The runs that are not in a fold.
fn without(recorded: &Recorded, (fold, folds): (usize, usize)) -> Recorded {
    let kept: Vec<usize> = (0..recorded.runs.len()).filter(|i| i % folds != fold).collect();
    recorded.part(&kept)
}

/// The errors of the runs of a fold.
fn held_out(recorded: &Recorded, (fold, folds): (usize, usize), simulator: &Simulator) -> Result<Vec<Error>> {
    let runs = recorded.runs.iter().enumerate().filter(|(i, _)| i % folds == fold);
    Ok(runs.map(|(_, run)| errors(simulator, run)).collect::<Result<Vec<_>>>()?.concat())
}

/// Some of the queries.
fn sample(recorded: &Recorded) -> Recorded {
    let n = recorded.query_ids.len();
    let most = n.min(MOST_QUERIES);
    recorded.queries(&(0..most).map(|k| k * n / most.max(1)).collect::<Vec<_>>())
}

fn grid(design: &Design) -> Vec<f64> {
    let scale = design.mean_square();
    EXPONENTS.map(|k| scale * 10f64.powf(f64::from(k) / 2.0)).collect()
}

/// The λ of the smallest error, the larger one of equally good ones.
fn best(tried: &[Tried]) -> Result<f64> {
    let finite = tried.iter().filter(|t| t.error.is_finite());
    let least = finite.rev().min_by(|a, b| a.error.total_cmp(&b.error));
    least.map(|t| t.lambda).ok_or(SimulateError::NoLambda)
}

/// Split conformal: the 90 % quantile of |error| / half the width, with the correction for few of them.
fn conformal(mut relative: Vec<f64>) -> f64 {
    relative.sort_by(f64::total_cmp);
    let at = (0.9 * (relative.len() + 1) as f64).ceil() as usize;
    relative
        .get(at.saturating_sub(1).min(relative.len().saturating_sub(1)))
        .copied()
        .filter(|s| *s > 0.0)
        .unwrap_or(1.0)
}

/// Generalised cross-validation (Golub, Heath and Wahba 1979), mean over queries:
/// R ‖y − X θ‖² / (R − tr X (XᵀX + λI)⁻¹ Xᵀ)², by an eigendecomposition of XXᵀ.
fn of_one_run(recorded: &Recorded, options: &FitOptions) -> Result<Chosen> {
    let chosen =
        |lambda, tried| Chosen { lambda, memory: 0.0, scale: None, tried, n_validated: 0, band_scale: [1.0; QUARTERS] };
    if let Some(lambda) = options.lambda {
        return Ok(chosen(lambda, Vec::new()));
    }
    let problem = Problem::new(recorded, options.kind, 0.0);
    let rows = problem.design.n_rows();
    if rows > MOST_ROWS {
        return Err(SimulateError::TooManyRows { rows, most: MOST_ROWS });
    }
    let mut tried: Vec<Tried> = grid(&problem.design).into_iter().map(|lambda| Tried { lambda, error: 0.0 }).collect();
    for (levels, changes) in problem.levels.iter().zip(&problem.changes) {
        let x = Operator { kind: problem.kind, design: &problem.design, levels };
        let mut kernel = vec![0.0; rows * rows];
        x.add_kernel(&mut kernel);
        let kernel = MatRef::from_column_major_slice(&kernel, rows, rows);
        let eigen = kernel.self_adjoint_eigen(Side::Lower).map_err(|_| SimulateError::NoLambda)?;
        let (vectors, values) = (eigen.U(), eigen.S().column_vector());
        let along = |k: usize| (0..rows).map(|i| vectors[(i, k)] * changes[i]).sum::<f64>();
        let parts: Vec<(f64, f64)> = (0..rows).map(|k| (values[k].max(0.0), along(k).powi(2))).collect();
        for t in &mut tried {
            let left = |value: f64| t.lambda / (value + t.lambda);
            let squares: f64 = parts.iter().map(|&(value, square)| left(value).powi(2) * square).sum();
            let trace: f64 = parts.iter().map(|&(value, _)| left(value)).sum();
            t.error += rows as f64 * squares / trace.powi(2) / problem.levels.len() as f64;
        }
    }
    Ok(chosen(best(&tried)?, tried))
}
