//! `etymon fit`.

use std::collections::BTreeMap;

use etymon_curvature::{FitMemory, FitOptions, FitSummary, Labels, fit};
use etymon_data::{BatchLimits, Spread};
use etymon_model::{LayerSpec, Model};
use etymon_store::{Opened as Folder, RunFolder, RunSpec, require_space};
use serde_json::{Value, json};

use super::plan::Planned;
use super::{CommandResult, Context, Outcome};
use crate::args::{FitArgs, FitMethod, LabelSource};
use crate::choice::{Choice, PLENTY, choose};
use crate::error::{CliError, Result};
use crate::estimate::{Load, Phase, combine, peak};
use crate::open::{
    Counted, Work, count_examples, data_fingerprints, model_fingerprints, open_corpus, open_model,
    tokenizer_fingerprint, with_reading,
};
use crate::progress::FitBars;

/// Examples per shard.
const SHARD: u64 = 1024;
/// Widest layer of which Kronecker factors are made: S of 32768 outputs is 8 GiB in f64.
const WIDEST: usize = 32_768;

pub fn run(args: &FitArgs, context: Context) -> CommandResult {
    let seed = context.global.seed.unwrap_or(0);
    let opened = open_model(&args.model, args.pass.dtype.precision())?;
    let layers = opened.model.layers();
    check_widths(layers)?;
    let corpus = open_corpus(&opened, &args.data)?;
    let counted = count_examples(&opened.model, &corpus, args.data.max_rows)?;
    let sample = sample(args, &counted);
    let used = used(&counted, sample);
    let choice = choice(args, &opened.model, &used)?;
    context.reporter.say(format!(
        "fit {}: {} layers of {}, {}{}",
        method_name(args.method),
        layers.len(),
        args.model.model.display(),
        counted.describe(),
        sample.map_or_else(String::new, |sample| format!(", {} of them are used", sample.n()))
    ));
    for layer in layers {
        context.reporter.detail(format!("  {} [{}, {}]", layer.name, layer.d_out, layer.d_in));
    }
    choice.say(context.reporter);
    counted.reasons.iter().for_each(|reason| context.reporter.detail(format!("  skipped {reason}")));
    let mut inputs = model_fingerprints(&args.model)?;
    inputs.extend(tokenizer_fingerprint(&args.model)?);
    inputs.extend(data_fingerprints("data", &corpus)?);
    let spec = RunSpec {
        kind: "factors".to_owned(),
        config: config(args, layers),
        seeds: BTreeMap::from([("labels".to_owned(), seed)]),
        inputs,
    };
    require_space(&args.out.out, disk_bytes(&opened.model, &choice))?;
    let overwrite = args.out.overwrite();
    let folder = match RunFolder::open_or_create(&args.out.out, spec, overwrite)? {
        Folder::AlreadyComplete(run) => {
            context.reporter.say(format!("{} is complete already", run.path().display()));
            return Ok(Outcome::Done(result(&run, None)));
        }
        Folder::Created(run) => run,
        Folder::Resumed(run) => {
            context.reporter.say("  resuming an interrupted fit");
            run
        }
    };
    let options = options(args, seed, sample, choice);
    let mut bars = FitBars::new(context.reporter, used.examples);
    let summary = fit(&opened.model, &corpus, &options, folder.path(), &mut bars)?;
    let mut folder = folder;
    folder.update_progress(json!({ "examples": summary.examples, "data": counted.json() }))?;
    let folder = folder.complete(summary.timings.clone())?;
    context.reporter.say(format!("factors in {}", folder.path().display()));
    Ok(Outcome::Done(result(&folder, Some(&summary))))
}

fn options(args: &FitArgs, seed: u64, sample: Option<Spread>, choice: Choice) -> FitOptions {
    FitOptions {
        labels: match args.labels {
            LabelSource::Model => Labels::Model { seed },
            LabelSource::Data => Labels::Data,
        },
        correction: args.method == FitMethod::Ekfac,
        max_examples: args.data.max_rows,
        sample,
        shard_examples: SHARD,
        limits: BatchLimits { max_rows: choice.batch_rows, max_examples: usize::MAX },
        groups: choice.groups,
    }
}

/// The examples that --max-examples leaves.
fn sample(args: &FitArgs, counted: &Counted) -> Option<Spread> {
    args.max_examples.map(|n| Spread::new(n, counted.examples))
}

/// About what these are.
fn used(counted: &Counted, sample: Option<Spread>) -> Counted {
    sample.map_or_else(|| counted.clone(), |sample| counted.part(sample.n()))
}

/// Rows per batch and layers per pass; refuses a fit for which memory does not suffice.
fn choice(args: &FitArgs, model: &Model<Work>, counted: &Counted) -> Result<Choice> {
    choose(&args.pass, model.layers(), counted.longest, PLENTY, |rows, layers| {
        peak(&phases_of(args, &model.with_layers(layers), counted, rows))
    })
}

/// The phases of a fit of all layers at once.
fn phases_of(args: &FitArgs, model: &Model<Work>, counted: &Counted, batch_rows: usize) -> Vec<Phase> {
    Load { model, counted, pass: &args.pass, batch_rows }.fit(args.method == FitMethod::Ekfac, SHARD)
}

fn phases(args: &FitArgs, model: &Model<Work>, counted: &Counted, choice: &Choice) -> Vec<Phase> {
    let group = |layers| phases_of(args, &model.with_layers(layers), counted, choice.batch_rows);
    let mut phases = combine(choice.groups.iter().map(group));
    if let (2.., Some(last)) = (choice.groups.len(), phases.last_mut()) {
        // The factors of the groups are copied into one file each.
        let FitMemory { bases, correction, .. } = FitMemory::of(model.layers());
        last.disk += bases + if args.method == FitMethod::Ekfac { correction / 2 } else { 0 };
    }
    phases
}

/// Opens what a fit would read, and counts what it would need.
pub fn plan(args: &FitArgs) -> Result<Planned> {
    let opened = open_model(&args.model, args.pass.dtype.precision())?;
    check_widths(opened.model.layers())?;
    let corpus = open_corpus(&opened, &args.data)?;
    let counted = count_examples(&opened.model, &corpus, args.data.max_rows)?;
    let used = used(&counted, sample(args, &counted));
    let choice = choice(args, &opened.model, &used)?;
    let phases = phases(args, &opened.model, &used, &choice);
    Ok(Planned { opened, corpus, choice, phases })
}

/// Everything that determines the factors.
fn config(args: &FitArgs, layers: &[LayerSpec]) -> Value {
    let own = [
        ("method", json!(method_name(args.method))),
        ("labels", json!(if args.labels == LabelSource::Model { "model" } else { "data" })),
        ("max_examples", json!(args.max_examples)),
        ("dtype", json!(args.pass.dtype.precision().name())),
        ("layers", json!(args.model.layers)),
        ("layer_names", json!(layers.iter().map(|l| l.name.as_str()).collect::<Vec<_>>())),
    ];
    with_reading(own, &args.data)
}

fn method_name(method: FitMethod) -> &'static str {
    match method {
        FitMethod::Ekfac => "ekfac",
        FitMethod::Kfac => "kfac",
    }
}

/// Bytes of the factors, twice while those of groups are joined, and of the sums of an unfinished pass.
fn disk_bytes(model: &Model<Work>, choice: &Choice) -> u64 {
    let copies = choice.groups.len().min(2) as u64;
    let sums = choice.groups.iter().map(|layers| {
        let FitMemory { bases, correction, .. } = FitMemory::of(model.with_layers(layers).layers());
        correction.max(2 * bases)
    });
    let FitMemory { bases, correction, .. } = FitMemory::of(model.layers());
    copies * (bases + correction / 2) + sums.max().unwrap_or(0)
}

fn check_widths(layers: &[LayerSpec]) -> Result<()> {
    match layers.iter().find(|l| l.d_out.max(l.d_in) > WIDEST) {
        Some(l) => Err(CliError::LayerTooWide { layer: l.name.clone(), width: l.d_out.max(l.d_in) }),
        None => Ok(()),
    }
}

fn result(folder: &RunFolder, summary: Option<&FitSummary>) -> Value {
    json!({
        "factors": folder.path(),
        "examples": folder.manifest().progress["examples"],
        "data": folder.manifest().progress["data"],
        "seconds": summary.map_or(&folder.manifest().timings, |s| &s.timings),
    })
}
