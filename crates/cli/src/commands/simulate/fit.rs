//! `etymon simulate fit`.

use std::collections::BTreeMap;
use std::time::Instant;

use etymon_simulate::{Simulator, find_logs, judge};
use etymon_store::{Fingerprint, Opened, RunFolder, RunSpec, fingerprint};
use serde_json::{Value, json};

use super::super::{CommandResult, Context, Outcome};
use super::figures::Figures;
use super::runs::{Runs, facts, fit_with_bars, options};
use crate::args::SimulateFitArgs;
use crate::error::Result;

pub fn run(args: &SimulateFitArgs, context: Context) -> CommandResult {
    let runs = Runs::read(&args.fit, &[args.kind.into()], args.hold_out, context)?;
    let options = options(&args.fit, args.kind.into(), context);
    let spec = RunSpec {
        kind: "simulator".to_owned(),
        config: json!({
            "kind": options.kind, "lambda": options.lambda, "unseen": options.unseen, "draws": options.draws,
            "hold_out": args.hold_out,
        }),
        seeds: BTreeMap::from([("posterior".to_owned(), options.seed)]),
        inputs: inputs(args)?,
    };
    let mut folder = match RunFolder::open_or_create(&args.out.out, spec, args.out.overwrite())? {
        Opened::AlreadyComplete(folder) => {
            context.reporter.say(format!("{} is complete already", folder.path().display()));
            let result = result(&folder, &Simulator::open(folder.path())?, &runs, context)?;
            return Ok(Outcome::Done(result));
        }
        Opened::Created(folder) | Opened::Resumed(folder) => folder,
    };
    let started = Instant::now();
    let fitted = fit_with_bars(&runs, &options, context)?;
    fitted.simulator.save(folder.path())?;
    let mut progress = facts(&fitted);
    progress["tried"] = fitted.chosen.tried.iter().map(|t| json!({ "lambda": t.lambda, "error": t.error })).collect();
    folder.update_progress(progress)?;
    let folder = folder.complete(BTreeMap::from([("total".to_owned(), started.elapsed().as_secs_f64())]))?;
    Ok(Outcome::Done(result(&folder, &fitted.simulator, &runs, context)?))
}

fn inputs(args: &SimulateFitArgs) -> Result<BTreeMap<String, Fingerprint>> {
    let logs = find_logs(&args.fit.log)?.into_iter().enumerate();
    let scores = args.fit.scores.iter().map(|path| Ok(("scores".to_owned(), fingerprint(path)?)));
    logs.map(|(i, path)| Ok((format!("log/{i:05}"), fingerprint(&path)?))).chain(scores).collect()
}

/// Says and returns what a simulator is, and how it does on the runs that were held out.
fn result(folder: &RunFolder, simulator: &Simulator, runs: &Runs, context: Context) -> Result<Value> {
    let figures = Figures::new(&judge(simulator, &runs.held_out)?);
    let unseen: Vec<&String> =
        simulator.train_ids().iter().zip(simulator.counts()).filter(|(_, n)| **n == 0).map(|(id, _)| id).collect();
    let facts = &folder.manifest().progress;
    context.reporter.say(format!(
        "{} simulator in {}: {}",
        simulator.kind().name(),
        folder.path().display(),
        facts["scale"].as_f64().map_or_else(
            || format!("lambda {:.3e}, {}", simulator.lambda(), facts["solver"].as_str().unwrap_or_default()),
            |scale| format!("scale of the scores {scale:.3e}")
        )
    ));
    if facts["scale"].as_f64().is_some_and(|scale| scale < 0.0) {
        context
            .reporter
            .say("the best scale is negative: where the scores say that losses fall, they rise in these runs");
    }
    if !unseen.is_empty() {
        let first: Vec<&str> = unseen.iter().take(5).map(|id| id.as_str()).collect();
        context.reporter.say(format!("{} train examples are in no fitted run: {} …", unseen.len(), first.join(", ")));
    }
    if let Some(figures) = &figures {
        Figures::HEADS.iter().zip(figures.row()).for_each(|(head, x)| context.reporter.say(format!("  {head}: {x}")));
    }
    Ok(json!({
        "simulator": folder.path(),
        "kind": simulator.kind(),
        "n_train": simulator.train_ids().len(),
        "n_queries": simulator.query_ids().len(),
        "fit": facts,
        "unseen": unseen,
        "seconds": folder.manifest().timings.get("total"),
        "held_out": figures.map(|f| f.json()),
    }))
}
