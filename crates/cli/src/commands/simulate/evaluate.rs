//! `etymon simulate evaluate`.

use std::time::Instant;

use etymon_evaluate::plot::bars;
use etymon_evaluate::statistics::{bootstrap_mean, mean};
use etymon_simulate::{Judged, Kind, judge};
use serde_json::{Value, json};

use super::super::evaluate::verdict::{Verdict, check_out, seconds};
use super::super::{CommandResult, Context};
use super::figures::Figures;
use super::runs::{Runs, facts, fit_with_bars, options};
use crate::args::SimulateEvaluateArgs;
use crate::error::{CliError, Result};

/// A kind on the held-out runs.
struct Evaluated {
    kind: Kind,
    judged: Vec<Judged>,
    figures: Figures,
    seconds: f64,
    fit: Value,
}

pub fn run(args: &SimulateEvaluateArgs, context: Context) -> CommandResult {
    check_out(&args.out, "simulate")?;
    if args.hold_out == 0 {
        let problem = "at least one run must be held out to judge by".to_owned();
        return Err(CliError::Usage { option: "--hold-out", problem });
    }
    let kinds: Vec<Kind> = args.kinds().into_iter().map(Kind::from).collect();
    let runs = Runs::read(&args.fit, &kinds, args.hold_out, context)?;
    let each = kinds.iter().map(|&kind| evaluate(args, kind, &runs, context));
    let evaluated = each.collect::<Result<Vec<_>>>()?;
    let seed = context.global.seed.unwrap_or(0);
    let head = ["kind"].into_iter().chain(Figures::HEADS).chain(["seconds"]).map(str::to_owned).collect();
    let mut table = vec![head];
    let mut plotted = Vec::new();
    for e in &evaluated {
        table.push([vec![e.kind.name().to_owned()], e.figures.row(), vec![seconds(Some(e.seconds))]].concat());
        let of_runs: Vec<f64> = e.judged.iter().map(|j| mean(&j.mse)).collect();
        plotted.extend(bootstrap_mean(&of_runs, seed).map(|interval| (e.kind.name().to_owned(), interval)));
    }
    let title = format!("Simulators on {} held-out runs", args.hold_out);
    let svg = bars(&title, "all-steps MSE, nats², with 95 % interval over runs", &plotted)?;
    let settings = json!({
        "log": args.fit.log, "hold_out": args.hold_out, "lambda": args.fit.lambda.0, "draws": args.fit.draws,
        "n_runs": runs.fitted.runs.len(), "n_train": runs.fitted.train_ids.len(),
        "n_queries": runs.fitted.query_ids.len(), "seed": seed,
    });
    let methods = evaluated.iter().map(Evaluated::json).collect();
    Verdict { figure: "simulate", settings, methods, table, svg }.finish(&args.out.out, context)
}

fn evaluate(args: &SimulateEvaluateArgs, kind: Kind, runs: &Runs, context: Context) -> Result<Evaluated> {
    context.reporter.say(kind.name());
    let started = Instant::now();
    let fitted = fit_with_bars(runs, &options(&args.fit, kind, context), context)?;
    let seconds = started.elapsed().as_secs_f64();
    let judged = judge(&fitted.simulator, &runs.held_out)?;
    let problem = || format!("there are no runs to judge {} by", kind.name());
    let figures = Figures::new(&judged).ok_or_else(|| CliError::Usage { option: "--hold-out", problem: problem() })?;
    Ok(Evaluated { kind, judged, figures, seconds, fit: facts(&fitted) })
}

impl Evaluated {
    fn json(&self) -> Value {
        let run = |j: &Judged| {
            json!({
                "run": j.run, "mse": mean(&j.mse), "final_spearman": j.final_spearman, "coverage": j.covered,
                "final_coverage": j.final_covered,
            })
        };
        json!({
            "method": self.kind.name(),
            "figures": self.figures.json(),
            "fit": self.fit,
            "seconds": self.seconds,
            "runs": self.judged.iter().map(run).collect::<Vec<_>>(),
        })
    }
}
