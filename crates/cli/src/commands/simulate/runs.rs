//! Recorded runs, and fits on them with a bar.

use std::sync::Mutex;

use etymon_simulate::{FitOptions, Fitted, Kind, Phase, Recorded, SimulateError, Solver, fit, fit_scores};
use serde_json::{Value, json};

use super::super::Context;
use super::scores;
use crate::args::{SimulateLogArgs, UnseenArg};
use crate::error::{CliError, Result};
use crate::progress::Task;

/// Runs to fit on, and runs to judge by.
pub struct Runs {
    pub fitted: Recorded,
    pub held_out: Recorded,
    /// `[n, Q]` TracIn-CP scores, where these are needed.
    scores: Option<Vec<f64>>,
}

impl Runs {
    /// Reads the logs, and the scores if one of the kinds needs them; the last `hold_out` runs are not fitted on.
    pub fn read(args: &SimulateLogArgs, kinds: &[Kind], hold_out: usize, context: Context) -> Result<Self> {
        let recorded = Recorded::read(&args.log)?;
        let n = recorded.runs.len();
        if hold_out >= n {
            let problem = format!("there are {n} runs, {hold_out} cannot be held out");
            return Err(CliError::Usage { option: "--hold-out", problem });
        }
        let positions: Vec<usize> = (0..n).collect();
        let (fitted, held_out) = positions.split_at(n - hold_out);
        context.reporter.say(format!(
            "{} runs to fit on, {hold_out} held out; {} train examples, {} watched",
            fitted.len(),
            recorded.train_ids.len(),
            recorded.query_ids.len()
        ));
        let scores = scores::read(args, kinds, &recorded)?;
        let runs = Self { fitted: recorded.part(fitted), held_out: recorded.part(held_out), scores };
        if args.unseen == UnseenArg::Refuse {
            runs.check()?
        }
        Ok(runs)
    }

    /// Refuses held-out runs with train examples that are not fitted on, before any work.
    fn check(&self) -> Result<()> {
        let counts = self.fitted.counts().into_iter().zip(self.held_out.counts());
        let ids = self.fitted.train_ids.iter().zip(counts);
        let unseen: Vec<&String> = ids.filter(|(_, (seen, used))| *seen == 0 && *used > 0).map(|(id, _)| id).collect();
        match unseen.first() {
            Some(&first) => Err(SimulateError::Unseen { n: unseen.len(), first: first.clone() }.into()),
            None => Ok(()),
        }
    }
}

/// How a kind is fitted.
pub fn options(args: &SimulateLogArgs, kind: Kind, context: Context) -> FitOptions {
    let (lambda, unseen) = (args.lambda.0, args.unseen.into());
    FitOptions { kind, lambda, unseen, draws: args.draws, seed: context.global.seed.unwrap_or(0) }
}

/// How a fit was made, for results.
pub fn facts(fitted: &Fitted) -> Value {
    let chosen = &fitted.chosen;
    json!({
        "lambda": chosen.lambda, "memory": chosen.memory, "scale": chosen.scale, "runs_validated": chosen.n_validated,
        "band_scale": chosen.band_scale, "solver": fitted.solver.map(Solver::name),
    })
}

/// Fits with a bar for each phase.
pub fn fit_with_bars(runs: &Runs, options: &FitOptions, context: Context) -> Result<Fitted> {
    if let Some(scores) = runs.scores.as_ref().filter(|_| options.kind == Kind::TracinCp) {
        return Ok(fit_scores(&runs.fitted, scores, options)?);
    }
    let bar: Mutex<Option<(Phase, Task)>> = Mutex::new(None);
    let fitted = fit(&runs.fitted, options, &|phase, total| {
        let mut bar = bar.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if bar.as_ref().is_none_or(|(of, _)| *of != phase) {
            let name = if phase == Phase::Validation { "validate" } else { "fit" };
            let task = context.reporter.task(name, total as u64, 0, "regressions");
            if let Some((_, done)) = bar.replace((phase, task)) {
                done.finish();
            }
        }
        if let Some((_, task)) = bar.as_ref() {
            task.advance(1, 0);
        }
    })?;
    if let Some((_, task)) = bar.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        task.finish();
    }
    Ok(fitted)
}
