//! `etymon fit`.

use std::collections::BTreeMap;

use etymon_curvature::{FitOptions, FitSummary, Labels, fit};
use etymon_data::BatchLimits;
use etymon_model::{LayerSpec, Model};
use etymon_store::{Opened as Folder, Overwrite, RunFolder, RunSpec, require_space};
use serde_json::{Value, json};

use super::plan::Planned;
use super::{CommandResult, Context, Outcome};
use crate::args::{FitArgs, FitMethod, LabelSource};
use crate::error::{CliError, Result};
use crate::estimate::{Load, Phase, batch_rows, peak};
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
    let rows = pick_rows(args, &opened.model, &counted)?;
    context.reporter.say(format!(
        "fit {}: {} layers of {}, {}",
        method_name(args.method),
        layers.len(),
        args.model.model.display(),
        counted.describe()
    ));
    for layer in layers {
        context.reporter.detail(format!("  {} [{}, {}]", layer.name, layer.d_out, layer.d_in));
    }
    counted.reasons.iter().for_each(|reason| context.reporter.detail(format!("  skipped {reason}")));
    let mut inputs = model_fingerprints(&args.model.model)?;
    inputs.extend(tokenizer_fingerprint(&args.model)?);
    inputs.extend(data_fingerprints("data", &corpus)?);
    let spec = RunSpec {
        kind: "factors".to_owned(),
        config: config(args, layers),
        seeds: BTreeMap::from([("labels".to_owned(), seed)]),
        inputs,
    };
    require_space(&args.out.out, disk_bytes(layers))?;
    let overwrite = if args.out.overwrite { Overwrite::Replace } else { Overwrite::Refuse };
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
    let options = FitOptions {
        labels: match args.labels {
            LabelSource::Model => Labels::Model { seed },
            LabelSource::Data => Labels::Data,
        },
        correction: args.method == FitMethod::Ekfac,
        max_examples: args.data.max_rows,
        shard_examples: SHARD,
        limits: BatchLimits { max_rows: rows, max_examples: usize::MAX },
    };
    let mut bars = FitBars::new(context.reporter, counted.examples, layers.len() as u64);
    let summary = fit(&opened.model, &corpus, &options, folder.path(), &mut bars)?;
    let mut folder = folder;
    folder.update_progress(json!({ "examples": summary.examples, "data": counted.json() }))?;
    let folder = folder.complete(summary.timings.clone())?;
    context.reporter.say(format!("factors in {}", folder.path().display()));
    Ok(Outcome::Done(result(&folder, Some(&summary))))
}

/// Rows per batch; refuses a fit for which memory does not suffice.
fn pick_rows(args: &FitArgs, model: &Model<Work>, counted: &Counted) -> Result<usize> {
    batch_rows(&args.pass, counted.longest, |rows| peak(&phases(args, model, counted, rows)))
}

fn phases(args: &FitArgs, model: &Model<Work>, counted: &Counted, batch_rows: usize) -> Vec<Phase> {
    Load { model, counted, pass: &args.pass, batch_rows }.fit(args.method == FitMethod::Ekfac, SHARD)
}

/// Opens what a fit would read, and counts what it would need.
pub fn plan(args: &FitArgs) -> Result<Planned> {
    let opened = open_model(&args.model, args.pass.dtype.precision())?;
    check_widths(opened.model.layers())?;
    let corpus = open_corpus(&opened, &args.data)?;
    let counted = count_examples(&opened.model, &corpus, args.data.max_rows)?;
    let rows = pick_rows(args, &opened.model, &counted)?;
    let phases = phases(args, &opened.model, &counted, rows);
    Ok(Planned { opened, corpus, batch_rows: rows, phases })
}

/// Everything that determines the factors.
fn config(args: &FitArgs, layers: &[LayerSpec]) -> Value {
    let own = [
        ("method", json!(method_name(args.method))),
        ("labels", json!(if args.labels == LabelSource::Model { "model" } else { "data" })),
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

/// Numbers in A and S, each A once.
fn n_covariance(layers: &[LayerSpec]) -> u64 {
    let of = |(i, l): (usize, &LayerSpec)| l.d_out * l.d_out + if l.input.0 == i { l.d_in * l.d_in } else { 0 };
    layers.iter().enumerate().map(|l| of(l) as u64).sum()
}

/// Bytes of the factors and, while a pass is unfinished, of its sums.
fn disk_bytes(layers: &[LayerSpec]) -> u64 {
    let lambda: u64 = layers.iter().map(|l| (l.d_out * l.d_in) as u64).sum();
    4 * (n_covariance(layers) + lambda) + 8 * n_covariance(layers).max(lambda)
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
