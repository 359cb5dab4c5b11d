//! `etymon simulate run` and `etymon simulate what-if`.

use std::collections::BTreeMap;

use etymon_evaluate::statistics::{mean, pearson, spearman};
use etymon_store::{Opened, RunFolder, RunSpec, fingerprint, read_json, write_json_atomic};
use etymon_train::Job;
use serde_json::{Value, json};

use super::super::{CommandResult, Context, Outcome};
use super::answer::Answer;
use super::question::Question;
use super::verify::Verification;
use crate::args::{CurriculumArgs, SimulateRunArgs, WhatIfArgs};
use crate::error::{CliError, Result};

const RESULT: &str = "simulation.json";
/// What `--verify` has measured: there as soon as the training ends, so that it is not repeated.
const TRAINED: &str = "trained.json";

/// One run, as it was or edited.
pub fn run(args: &SimulateRunArgs, context: Context) -> CommandResult {
    let question = Question::open(&args.curriculum)?;
    let Some(folder) = folder("simulated run", &args.curriculum, &question, None, context)? else {
        return known(&args.curriculum);
    };
    let roll_out = question.simulator.roll_out(&question.edited, &question.first)?;
    let (baseline, edited) = if question.is_edited { (None, Some(roll_out)) } else { (Some(roll_out), None) };
    let answer = Answer { question: &question, baseline, edited, changes: None, trained: None };
    finish(&answer, &args.curriculum, folder, "Simulated run", context)
}

/// As it was and edited, and perhaps really trained.
pub fn what_if(args: &WhatIfArgs, context: Context) -> CommandResult {
    let question = Question::open(&args.curriculum)?;
    if question.recorded.is_none() {
        let problem = "is missing: the run that is edited; `simulate run` simulates a curriculum alone".to_owned();
        return Err(CliError::Usage { option: "--log", problem });
    }
    if !question.is_edited {
        let problem = "what if what? Give an edit such as --remove, or --curriculum".to_owned();
        return Err(CliError::Usage { option: "edits", problem });
    }
    // Refused, if it is, before anything is written.
    let verification = args.verify.as_ref().map(|config| Verification::open(config, &question)).transpose()?;
    let changes = question.simulator.changes(&question.baseline, &question.edited, &question.first)?;
    let Some(folder) = folder("what-if", &args.curriculum, &question, args.verify.as_deref(), context)? else {
        return known(&args.curriculum);
    };
    let baseline = question.simulator.roll_out(&question.baseline, &question.first)?;
    let edited = question.simulator.roll_out(&question.edited, &question.first)?;
    let trained = verification.map(|verification| verification.trained(&folder.file(TRAINED), context)).transpose()?;
    let answer =
        Answer { question: &question, baseline: Some(baseline), edited: Some(edited), changes: Some(changes), trained };
    finish(&answer, &args.curriculum, folder, "What if?", context)
}

/// The folder to work in; none if the same question was answered there.
fn folder(
    kind: &str,
    args: &CurriculumArgs,
    question: &Question,
    verify: Option<&std::path::Path>,
    context: Context,
) -> Result<Option<RunFolder>> {
    let mut inputs = question.inputs.clone();
    if let Some(config) = verify {
        inputs.insert("verify".to_owned(), fingerprint(config)?);
        let job = Job::read(config)?.spec()?.inputs;
        inputs.extend(job.into_iter().map(|(role, file)| (format!("verify/{role}"), file)));
    }
    let run = question.recorded.as_ref().map(|run| run.name.as_str());
    let config = json!({ "edits": args.edits.words(), "run": run, "format": args.format, "label": args.label });
    let spec = RunSpec { kind: kind.to_owned(), config, seeds: BTreeMap::new(), inputs };
    Ok(match RunFolder::open_or_create(&args.out.out, spec, args.out.overwrite())? {
        Opened::Created(folder) | Opened::Resumed(folder) => Some(folder),
        Opened::AlreadyComplete(folder) => {
            context.reporter.say(format!("{} is complete already", folder.path().display()));
            None
        }
    })
}

fn known(args: &CurriculumArgs) -> CommandResult {
    Ok(Outcome::Done(read_json(&args.out.out.join(RESULT))?))
}

fn finish(
    answer: &Answer<'_>,
    args: &CurriculumArgs,
    folder: RunFolder,
    title: &str,
    context: Context,
) -> CommandResult {
    answer.show(args, &folder, title, context)?;
    let verified = verified(answer);
    if let Some(figures) = &verified {
        let shown = |key: &str| figures[key].as_f64().map_or_else(|| "-".to_owned(), |x| format!("{x:.4}"));
        context.reporter.say(format!(
            "verified: mean squared error {} over all steps, {} at the end; changes: Spearman {}, Pearson {}, in the band {}",
            shown("mse"),
            shown("final_mse"),
            shown("change_spearman"),
            shown("change_pearson"),
            shown("change_in_band")
        ));
    }
    let question = answer.question;
    let last = |losses: &[f64]| losses[losses.len() - question.first.len()..].to_vec();
    let baseline = answer.baseline.as_ref().map(|r| last(&r.losses));
    let edited = answer.edited.as_ref().map(|r| last(&r.losses));
    let trained = answer.trained.as_ref().and_then(|t| t.losses.last());
    let of = |q: usize, id: &String| {
        let change = answer.changes.as_ref().map(|changes| changes[q]);
        json!({
            "query_id": id,
            "first": question.first[q],
            "baseline": baseline.as_ref().map(|losses| losses[q]),
            "edited": edited.as_ref().map(|losses| losses[q]),
            "change": change.map(|c| c.value),
            "band": change.and_then(|c| c.band),
            "trained": trained.map(|losses| losses[q]),
            "trained_change": answer.trained_changes().map(|changes| changes[q]),
        })
    };
    let ids = question.simulator.query_ids();
    let unseen = answer.edited.as_ref().or(answer.baseline.as_ref()).map_or(&[][..], |r| &r.unseen);
    let result = json!({
        "folder": folder.path(),
        "page": folder.file("simulation.html"),
        "kind": question.simulator.kind(),
        "run": question.recorded.as_ref().map(|run| run.name.as_str()),
        "edits": args.edits.words(),
        "steps": [question.baseline.n_steps(), question.edited.n_steps()],
        "unseen": unseen.iter().map(|&i| question.simulator.train_ids()[i].as_str()).collect::<Vec<_>>(),
        "queries": ids.iter().enumerate().map(|(q, id)| of(q, id)).collect::<Vec<_>>(),
        "verified": verified,
    });
    write_json_atomic(&folder.file(RESULT), &result)?;
    folder.complete(BTreeMap::new())?;
    Ok(Outcome::Done(result))
}

/// How far the simulation of the edited run is from the training of it.
fn verified(answer: &Answer<'_>) -> Option<Value> {
    let (trained, roll_out) = (answer.trained.as_ref()?, answer.edited.as_ref()?);
    let n_queries = answer.question.first.len();
    let squares = |step: u64, losses: &[f64]| {
        let simulated = &roll_out.losses[step as usize * n_queries..][..n_queries];
        mean(&losses.iter().zip(simulated).map(|(a, b)| (a - b).powi(2)).collect::<Vec<_>>())
    };
    let each: Vec<f64> = trained.steps.iter().zip(&trained.losses).map(|(&step, l)| squares(step, l)).collect();
    // The first losses are given, not simulated.
    let errors = each.get(1..).filter(|errors| !errors.is_empty())?;
    let (changes, real) = (answer.changes.as_ref()?, answer.trained_changes()?);
    let values: Vec<f64> = changes.iter().map(|c| c.value).collect();
    let inside = |(c, real): (&etymon_simulate::Change, &f64)| c.band.map(|[low, high]| low <= *real && *real <= high);
    let inside: Option<Vec<bool>> = changes.iter().zip(&real).map(inside).collect();
    let share = inside.map(|all| all.iter().filter(|&&yes| yes).count() as f64 / all.len().max(1) as f64);
    Some(json!({
        "seconds": trained.seconds,
        "mse": mean(errors),
        "final_mse": errors.last(),
        "change_pearson": pearson(&values, &real),
        "change_spearman": spearman(&values, &real),
        "change_in_band": share,
    }))
}
