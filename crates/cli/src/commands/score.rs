//! `etymon score`.

use std::collections::BTreeMap;

use etymon_attribution::Rank;
use etymon_curvature::inverse::Dense;
use etymon_curvature::{CurvatureError, Factors};
use etymon_data::{CandidateFilter, Corpus, Example, ExampleIndex, union_of};
use etymon_model::{Measurement, Model, ModelConfig, ModelError, Task};
use etymon_store::{Opened as Folder, Overwrite, RunFolder, RunSpec, require_space};
use serde_json::{Value, json};

use super::plan::Planned;
use super::scoring::{Clock, Job};
use super::{CommandResult, Context, Outcome};
use crate::args::{MeasurementArg, PerToken, ScoreArgs, ScoreMethod};
use crate::choice::{Choice, PLENTY, choose};
use crate::error::{CliError, Result};
use crate::estimate::{Load, Phase, Scoring, combine, peak};
use crate::open::{
    Counted, Opened, Work, count_examples, data_fingerprints, model_fingerprints, open_corpus, open_model,
    read_queries, require_same_model, tokenizer_fingerprint, with_reading,
};
use crate::tables::UNFINISHED;

/// Names of the tables' own columns.
const RESERVED: [&str; 5] = ["", "train_id", "layer", "position", "token"];

pub fn run(args: &ScoreArgs, context: Context) -> CommandResult {
    let mut opened = open_model(&args.model, args.pass.dtype.precision())?;
    tap_layers_of_factors(args, &mut opened.model)?;
    let corpus = open_corpus(&opened, &args.data)?;
    let queries = if args.self_influence { Vec::new() } else { open_queries(args, &opened)? };
    args.filter.as_deref().map(parse_filter).transpose()?;
    let counted = count_examples(&opened.model, &corpus, args.data.max_rows)?;
    let (choice, _) = estimate(args, &opened.model, &counted, &queries)?;
    require_space(&args.out.out, disk_bytes(args, &opened.model, &counted, queries.len().max(1)))?;
    context.reporter.say(format!("score {}: {}", args.method.name(), counted.describe()));
    choice.say(context.reporter);
    let mut run = match open_folder(args, &opened.model, &corpus)? {
        Folder::AlreadyComplete(run) => {
            context.reporter.say(format!("{} is complete already", run.path().display()));
            run.remove(UNFINISHED)?;
            return Ok(Outcome::Done(result(&run)));
        }
        Folder::Created(run) | Folder::Resumed(run) => run,
    };
    let candidates = candidates(args, context, &corpus, &counted, &queries)?;
    let (opened, corpus, counted, queries) = (&opened, &corpus, &counted, &queries[..]);
    let clock = Clock::start();
    let mut job = Job { args, context, opened, corpus, counted, choice, queries, candidates, clock };
    let scored = job.run(&mut run)?;
    // What was noted for resuming stays: a crash before the last line must not lose the tables.
    let mut progress = run.manifest().progress.as_object().cloned().unwrap_or_default();
    progress.insert("rows".to_owned(), json!(scored));
    progress.insert("n_train".to_owned(), json!(args.n_train.unwrap_or(counted.examples)));
    progress.insert("data".to_owned(), counted.json());
    let names: Vec<&str> = opened.model.layers().iter().map(|l| l.name.as_str()).collect();
    progress.insert("layers".to_owned(), json!(names));
    run.update_progress(Value::Object(progress))?;
    let run = run.complete(job.clock.stop())?;
    run.remove(UNFINISHED)?;
    context.reporter.say(format!("scores in {}", run.path().display()));
    Ok(Outcome::Done(result(&run)))
}

fn open_queries(args: &ScoreArgs, opened: &Opened) -> Result<Vec<Example>> {
    if args.queries.is_empty() {
        let problem = "is missing; queries are rows with prompt and completion, or use --self-influence".to_owned();
        return Err(CliError::Usage { option: "--queries", problem });
    }
    if args.per_token.is_some() && opened.model.config().vocab().is_none() {
        let problem = "rows of features have no tokens".to_owned();
        return Err(CliError::Usage { option: "--per-token", problem });
    }
    let queries = read_queries(opened, &args.queries, &args.data.rows)?;
    if let Some(query) = queries.iter().find(|q| RESERVED.contains(&q.id.as_str())) {
        return Err(CliError::QueryId { id: query.id.clone() });
    }
    if let ModelConfig::Mlp(config) = opened.model.config()
        && config.task == Task::Regression
        && args.measurement == MeasurementArg::Margin
    {
        let (measurement, task) = (Measurement::Margin.name(), config.task.name());
        return Err(ModelError::Measurement { measurement, task }.into());
    }
    Ok(queries)
}

/// Taps the layers that the factors are of; refuses those of another model.
fn tap_layers_of_factors(args: &ScoreArgs, model: &mut Model<Work>) -> Result<()> {
    if args.self_influence && args.method.solves() {
        let problem = format!("{} solves for queries; self-influence needs ekfac or kfac", args.method.name());
        return Err(CliError::Usage { option: "--method", problem });
    }
    let Some(folder) = args.factors.as_ref().filter(|_| args.method.takes_factors()) else {
        if !args.method.needs_factors() {
            return Ok(());
        }
        let problem = format!("is missing; --method {} needs the folder of `etymon fit`", args.method.name());
        return Err(CliError::Usage { option: "--factors", problem });
    };
    let run = RunFolder::open_complete(folder, "factors")?;
    require_same_model(&run, &args.model)?;
    if args.model.layers.is_none() {
        model.select_layers(run.manifest().spec.config["layers"].as_str())?;
    }
    let factors = Factors::open(folder, model.layers())?;
    if args.method != ScoreMethod::Kfac && !factors.has_correction() {
        return Err(CurvatureError::NoCorrection.into());
    }
    Ok(())
}

/// The rows that the filter keeps, if there is one.
fn candidates(
    args: &ScoreArgs,
    context: Context,
    corpus: &Corpus,
    counted: &Counted,
    queries: &[Example],
) -> Result<Option<Vec<ExampleIndex>>> {
    let Some(keep) = args.filter.as_deref().map(parse_filter).transpose()? else { return Ok(None) };
    let most = args.data.max_rows.map_or(usize::MAX, |n| n as usize);
    let union = union_of(&CandidateFilter::tfidf(keep).within(most).select(corpus, queries)?);
    context.reporter.say(format!("  tfidf:{keep} keeps {} of {} rows", union.len(), counted.examples));
    Ok(Some(union))
}

fn open_folder(args: &ScoreArgs, model: &Model<Work>, corpus: &Corpus) -> Result<Folder> {
    let mut inputs = model_fingerprints(&args.model)?;
    inputs.extend(tokenizer_fingerprint(&args.model)?);
    inputs.extend(data_fingerprints("data", corpus)?);
    for (i, path) in args.queries.iter().enumerate() {
        inputs.insert(format!("queries/{i:05}"), etymon_store::fingerprint(path)?);
    }
    if let Some(factors) = args.factors.as_ref().filter(|_| args.method.takes_factors()) {
        inputs.insert("factors".to_owned(), etymon_store::fingerprint(factors)?);
    }
    let spec = RunSpec { kind: "scores".to_owned(), config: config(args, model), seeds: BTreeMap::new(), inputs };
    let overwrite = if args.out.overwrite { Overwrite::Replace } else { Overwrite::Refuse };
    Ok(RunFolder::open_or_create(&args.out.out, spec, overwrite)?)
}

/// Everything that determines the scores.
fn config(args: &ScoreArgs, model: &Model<Work>) -> Value {
    let own = [
        ("method", json!(args.method.name())),
        ("self_influence", json!(args.self_influence)),
        ("damping", json!(args.method.takes_factors().then(|| args.damping.to_string()))),
        ("solve", args.method.solves().then(|| solve_config(args)).into()),
        ("measurement", json!(measurement(args).name())),
        ("rank", json!(args.rank)),
        ("dtype", json!(args.pass.dtype.precision().name())),
        ("layer_names", json!(model.layers().iter().map(|l| l.name.as_str()).collect::<Vec<_>>())),
        ("per_layer", json!(args.per_layer)),
        ("per_token", json!(args.per_token.map(|p| format!("{p:?}").to_lowercase()))),
        ("top", json!(args.top)),
        ("filter", json!(args.filter)),
        ("n_train", json!(args.n_train)),
    ];
    with_reading(own, &args.data)
}

/// What determines how queries are solved.
fn solve_config(args: &ScoreArgs) -> Value {
    let (rows, tolerance, seed) = (args.solve.solve_rows, args.solve.tolerance, args.solve.solve_seed);
    json!({ "rows": rows, "steps": args.steps(), "tolerance": tolerance, "seed": seed })
}

/// Bytes of the tables: floats hardly compress.
fn disk_bytes(args: &ScoreArgs, model: &Model<Work>, counted: &Counted, n_queries: usize) -> u64 {
    let layers = if args.per_layer { model.layers().len() as u64 } else { 0 };
    let tokens = if args.per_token == Some(PerToken::All) { counted.tokens } else { 0 };
    4 * n_queries as u64 * (counted.examples * (1 + layers) + tokens)
}

pub fn measurement(args: &ScoreArgs) -> Measurement {
    match args.measurement {
        MeasurementArg::LogLikelihood => Measurement::LogLikelihood,
        MeasurementArg::Margin => Measurement::Margin,
    }
}

pub fn rank(args: &ScoreArgs) -> Rank {
    args.rank.map_or(Rank::Full, Rank::Low)
}

fn parse_filter(text: &str) -> Result<usize> {
    let keep = text.strip_prefix("tfidf:").and_then(|n| n.parse().ok()).filter(|&n: &usize| n > 0);
    keep.ok_or_else(|| CliError::Usage {
        option: "--filter",
        problem: format!("`{text}`: expected tfidf:N with N > 0, such as tfidf:10000"),
    })
}

/// What is scored, for the estimate.
fn scoring(args: &ScoreArgs, model: &Model<Work>, counted: &Counted, queries: &[Example]) -> Scoring {
    Scoring {
        queries: queries.len() as u64,
        query_rows: queries.iter().map(|q| q.n_rows() as u64).sum(),
        rank: rank(args),
        self_influence: args.self_influence,
        factors: args.factors.is_some() && args.method.takes_factors(),
        solved: args.method.solves().then(|| solved(args, counted, queries.len())),
        layers: if args.per_layer { model.layers().len() as u64 } else { 0 },
        tokens: args.per_token == Some(PerToken::All),
        disk: disk_bytes(args, model, counted, queries.len().max(1)),
    }
}

/// Rows of the train set that products go over, for all queries.
fn solved(args: &ScoreArgs, counted: &Counted, n_queries: usize) -> u64 {
    let examples = counted.examples.min(args.solve.solve_rows as u64);
    let steps = args.steps() as u64;
    let products = match args.method {
        ScoreMethod::Arnoldi => steps,
        // Batches, of which a few make a product.
        ScoreMethod::Astra | ScoreMethod::Lissa => n_queries as u64 * steps.div_ceil(8),
        _ => n_queries as u64 * steps,
    };
    products * examples * counted.rows.div_ceil(counted.examples.max(1))
}

/// Rows per batch and layers per pass, and what a score needs with them; refuses one for which memory does not suffice.
fn estimate(
    args: &ScoreArgs,
    model: &Model<Work>,
    counted: &Counted,
    queries: &[Example],
) -> Result<(Choice, Vec<Phase>)> {
    if args.method == ScoreMethod::Dense {
        Dense::check(model.layers().iter().map(|s| s.d_out * s.d_in).sum())?;
    }
    let task = scoring(args, model, counted, queries);
    let group = |layers, batch_rows| {
        Load { model: &model.with_layers(layers), counted, pass: &args.pass, batch_rows }.score(&task)
    };
    let longest = queries.iter().map(|q| q.n_rows() as u64).fold(counted.longest, u64::max);
    // Each batch multiplies queries of low rank out anew, which costs as much as that many rows.
    let most = args.rank.map_or(PLENTY, |rank| (rank * queries.len()).next_power_of_two().max(PLENTY));
    // Inverses by products mix all layers: there is one group, or none fits.
    let all = 0..model.layers().len();
    let layers_of = |layers| if args.method.solves() { all.clone() } else { layers };
    let peak_of = |rows, layers| peak(&group(layers_of(layers), rows));
    let choice = choose(&args.pass, model.layers(), longest, most, peak_of)?;
    let phases = combine(choice.groups.iter().map(|layers| group(layers, choice.batch_rows)));
    Ok((choice, phases))
}

/// Opens what a score would read, and counts what it would need.
pub fn plan(args: &ScoreArgs) -> Result<Planned> {
    let mut opened = open_model(&args.model, args.pass.dtype.precision())?;
    tap_layers_of_factors(args, &mut opened.model)?;
    let corpus = open_corpus(&opened, &args.data)?;
    let queries = if args.self_influence { Vec::new() } else { open_queries(args, &opened)? };
    args.filter.as_deref().map(parse_filter).transpose()?;
    let counted = count_examples(&opened.model, &corpus, args.data.max_rows)?;
    let (choice, phases) = estimate(args, &opened.model, &counted, &queries)?;
    Ok(Planned { opened, corpus, choice, phases })
}

fn result(run: &RunFolder) -> Value {
    let manifest = run.manifest();
    json!({
        "scores": run.path(),
        "rows": manifest.progress["rows"],
        "n_train": manifest.progress["n_train"],
        "data": manifest.progress["data"],
        "seconds": manifest.timings,
    })
}
