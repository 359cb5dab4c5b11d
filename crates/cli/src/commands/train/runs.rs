//! `etymon train --runs`: many runs of one configuration, recorded.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use etymon_tensor::Cpu;
use etymon_train::{Event, Job, Runs, Variations, Workers};
use serde_json::json;

use super::super::{CommandResult, Context, Outcome};
use crate::args::{TrainArgs, Vary};
use crate::error::{CliError, Result};
use crate::machine::allowed_memory;

/// Part of the train set where the user does not say.
const SUBSET: f64 = 0.5;

pub fn run(args: &TrainArgs, n: u64, job: Job, context: Context) -> CommandResult {
    let (out, vary) = (job.out.clone(), variations(args)?);
    let runs = Runs::open(Cpu::<f32>::new(), job, vary, args.keep_models)?;
    let workers =
        Workers::choose(rayon::current_num_threads(), runs.bytes_per_run(), allowed_memory(args.memory_limit))?;
    let missing = if args.overwrite { n } else { runs.n_missing(n) };
    let steps = missing * runs.n_steps()?;
    let at_once = workers.runs.min(missing.max(1) as usize);
    context.reporter.say(format!(
        "train {}: {missing} of {n} runs, {at_once} at a time on {} thread{} each",
        out.display(),
        workers.threads,
        if workers.threads == 1 { "" } else { "s" }
    ));
    let started = Instant::now();
    let (bar, finished) = (Mutex::new(context.reporter.task("runs", steps, 0, "steps")), AtomicU64::new(0));
    let told = |event| {
        let mut bar = bar.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match event {
            Event::Started { step } => bar.advance(step, 0),
            Event::Step { n_rows } => bar.advance(1, n_rows as u64),
            Event::Finished => {
                let done = finished.fetch_add(1, Ordering::Relaxed) + 1;
                bar.detail(format!("{done}/{missing}"));
            }
        }
    };
    let timings = runs.record(n, workers, args.overwrite(), &told)?;
    bar.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).finish();
    let share = timings.get("watch").copied().unwrap_or(0.0) / timings.get("total").copied().unwrap_or(f64::NAN);
    context.reporter.say(format!("  watched losses: {:.0} % of the time of the runs", 100.0 * share));
    context.reporter.say(format!("{n} runs in {}", out.display()));
    Ok(Outcome::Done(json!({
        "out": out,
        "runs": (0..n).map(|k| runs.folder(k)).collect::<Vec<_>>(),
        "trained": missing,
        "at_once": at_once,
        "seconds": started.elapsed().as_secs_f64(),
        "watch_share": share,
    })))
}

fn variations(args: &TrainArgs) -> Result<Variations> {
    let subset = args.vary.contains(&Vary::Subset);
    if args.subset_fraction.is_some() && !subset {
        let problem = "is for --vary subset".to_owned();
        return Err(CliError::Usage { option: "--subset-fraction", problem });
    }
    let fraction = args.subset_fraction.unwrap_or(SUBSET);
    if !(fraction > 0.0 && fraction < 1.0) {
        let problem = format!("must be between 0 and 1, is {fraction}");
        return Err(CliError::Usage { option: "--subset-fraction", problem });
    }
    Ok(Variations { order: args.vary.contains(&Vary::Order), subset: subset.then_some(fraction) })
}
