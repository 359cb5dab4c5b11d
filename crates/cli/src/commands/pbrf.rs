//! `etymon evaluate pbrf`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use etymon_curvature::{Damping, Spectrum};
use etymon_data::Example;
use etymon_evaluate::pbrf::{Agreement, Minimiser, Proximal, Response, ResponseFolder, draw_indices, judge};
use etymon_model::{LayerId, Measurement, Model};
use etymon_store::{Opened as Folder, RunFolder, RunSpec, RunStatus, ScoreTable, write_json_atomic};
use etymon_tensor::{Cpu, Precision};
use serde_json::{Value, json};

use super::{CommandResult, Context, Outcome, print};
use crate::args::{MinimiserArg, PbrfArgs};
use crate::error::{CliError, Result};
use crate::open::{
    Work, data_fingerprints, model_fingerprints, open_corpus, open_factors, open_model, path_fingerprints,
    read_queries, require_same_model, tokenizer_fingerprint, with_reading,
};

/// What was judged.
struct Judged {
    name: String,
    /// Seconds of the score for one of its queries, where its manifest tells.
    seconds: Option<f64>,
    agreement: Agreement,
}

pub fn run(args: &PbrfArgs, context: Context) -> CommandResult {
    let seed = context.global.seed.unwrap_or(0);
    let mut opened = open_model(&args.model, Precision::F32)?;
    let lambda = lambda(args, &mut opened.model)?;
    let corpus = open_corpus(&opened, &args.data)?;
    let most = args.data.max_rows.map_or(usize::MAX, |n| n as usize);
    let train = corpus.examples().take(most).collect::<std::result::Result<Vec<_>, _>>()?;
    let queries = chosen(&read_queries(&opened, &args.queries, &args.data.rows)?, args.pairs.queries, seed, 1);
    let wanted = chosen(&train, args.pairs.train, seed, 0);
    // What cannot be judged is found before the long work.
    for folder in &args.scores {
        scores_of(folder, &wanted, &queries, args)?;
    }
    let mut inputs = model_fingerprints(&args.model)?;
    inputs.extend(tokenizer_fingerprint(&args.model)?);
    inputs.extend(data_fingerprints("data", &corpus)?);
    inputs.extend(path_fingerprints("queries", args.queries.iter().map(PathBuf::as_path))?);
    let config = config(args, &opened.model, &lambda);
    let spec = RunSpec { kind: "pbrf".to_owned(), config, seeds: BTreeMap::from([("pairs".to_owned(), seed)]), inputs };
    let run = match RunFolder::open_or_create(&args.out.out, spec, args.out.overwrite())? {
        Folder::Created(run) | Folder::Resumed(run) | Folder::AlreadyComplete(run) => run,
    };
    let model = opened.model.to_backend(Cpu::<f64>::new())?;
    let (responses, run) = respond(args, context, (model, &train, &lambda), &wanted, &queries, run)?;
    let epsilon = args.copies / train.len() as f64;
    let result = result(args, &wanted, &queries, &responses, (epsilon, seed), &run, context.global.json)?;
    write_json_atomic(&run.file("evaluation.json"), &result)?;
    Ok(Outcome::Done(result))
}

/// λ of each layer; taps the layers that the factors are of.
fn lambda(args: &PbrfArgs, model: &mut Model<Work>) -> Result<Vec<f64>> {
    let Damping::MeanEigenvalue(_) = args.damping else {
        return Ok(vec![args.damping.lambda(0.0); model.layers().len()]);
    };
    let Some(folder) = &args.factors else {
        let problem = "is missing; a damping of rel:X is relative to the eigenvalues of `etymon fit`, abs:X needs none";
        return Err(CliError::Usage { option: "--factors", problem: problem.to_owned() });
    };
    let factors = open_factors(folder, &args.model, model)?;
    let kind = if factors.has_correction() { Spectrum::Corrected } else { Spectrum::Kronecker };
    let of_layer = |i| {
        let values = factors.spectrum(LayerId(i), kind)?;
        Ok(args.damping.lambda(values.iter().map(|&x| f64::from(x)).sum::<f64>() / values.len().max(1) as f64))
    };
    (0..model.layers().len()).map(of_layer).collect()
}

fn chosen(examples: &[Example], count: usize, seed: u64, which: u64) -> Vec<Example> {
    draw_indices(examples.len(), count, seed, which).into_iter().map(|i| examples[i].clone()).collect()
}

fn minimiser(args: &PbrfArgs) -> Minimiser {
    let tolerance = args.tolerance;
    let steps = |default| args.steps.map_or(default, |n| n as u64);
    match args.minimiser {
        MinimiserArg::Lbfgs => Minimiser::Lbfgs { tolerance, most: steps(2000) },
        MinimiserArg::Adam => Minimiser::Adam { rate: args.rate, steps: steps(5000), tolerance },
    }
}

/// Everything that determines the responses.
fn config(args: &PbrfArgs, model: &Model<Work>, lambda: &[f64]) -> Value {
    let own = [
        ("damping", json!(args.damping.to_string())),
        ("lambda", json!(lambda)),
        ("layer_names", json!(model.layers().iter().map(|l| l.name.as_str()).collect::<Vec<_>>())),
        ("copies", json!(args.copies)),
        ("measurement", json!(Measurement::from(args.measurement).name())),
        ("minimise", json!(minimiser(args))),
        ("leading", json!(args.leading)),
        ("pairs", json!([args.pairs.train, args.pairs.queries])),
        ("batch_examples", json!(args.batch_examples)),
    ];
    with_reading(own, &args.data)
}

/// Computes what is not there yet.
fn respond(
    args: &PbrfArgs,
    context: Context,
    (model, train, lambda): (Model<Cpu<f64>>, &[Example], &[f64]),
    wanted: &[Example],
    queries: &[Example],
    run: RunFolder,
) -> Result<(Vec<Response>, RunFolder)> {
    let started = Instant::now();
    let by_gradients = args.minimiser == MinimiserArg::Lbfgs && run.manifest().status != RunStatus::Complete;
    let proximal = Proximal::new(model, train, args.batch_examples, lambda)?;
    let proximal = proximal.with_leading(if by_gradients { args.leading } else { 0 })?;
    let (epsilon, by) = (args.copies / train.len() as f64, minimiser(args));
    let folder = ResponseFolder { path: run.file("responses"), epsilon, by, measurement: args.measurement.into() };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = context.global.threads.unwrap_or(threads);
    let task = context.reporter.task("responses", wanted.len() as u64, 0, "examples");
    let evaluations = AtomicUsize::new(0);
    let told = |response: &Response| {
        evaluations.fetch_add(response.evaluations as usize, Ordering::Relaxed);
        task.advance(1, 0);
    };
    let responses = folder.respond(&proximal, wanted, queries, workers, &told)?;
    task.finish();
    let timings = BTreeMap::from([("responses".to_owned(), started.elapsed().as_secs_f64())]);
    let complete = run.manifest().status == RunStatus::Complete;
    Ok((responses, if complete { run } else { run.complete(timings)? }))
}

/// `[M][Q]` The scores of a folder, and its manifest if it has one.
fn scores_of(
    folder: &Path,
    wanted: &[Example],
    queries: &[Example],
    args: &PbrfArgs,
) -> Result<(Vec<Vec<f64>>, Option<RunFolder>)> {
    let run = folder.join("manifest.json").exists().then(|| RunFolder::open_complete(folder, "scores")).transpose()?;
    if let Some(run) = &run {
        require_same_model(run, &args.model)?;
        let explained = run.manifest().spec.config["measurement"].as_str();
        if explained.is_some_and(|name| name != Measurement::from(args.measurement).name()) {
            let problem = format!("{} explains {}", folder.display(), explained.unwrap_or_default());
            return Err(CliError::Usage { option: "--measurement", problem });
        }
    }
    let table = ScoreTable::open(folder)?;
    let ids = table.train_ids()?;
    let rows: BTreeMap<&str, usize> = ids.iter().enumerate().map(|(row, id)| (id.as_str(), row)).collect();
    let row = |example: &Example| {
        rows.get(example.id.as_str()).copied().ok_or_else(|| CliError::Usage {
            option: "--scores",
            problem: format!("{} has no training example `{}`", folder.display(), example.id),
        })
    };
    let rows = wanted.iter().map(row).collect::<Result<Vec<_>>>()?;
    let mut scores = vec![Vec::with_capacity(queries.len()); wanted.len()];
    for query in queries {
        let column = table.column(&query.id)?;
        scores.iter_mut().zip(&rows).for_each(|(to, &row)| to.push(f64::from(column[row])));
    }
    Ok((scores, run))
}

fn result(
    args: &PbrfArgs,
    wanted: &[Example],
    queries: &[Example],
    responses: &[Response],
    (epsilon, seed): (f64, u64),
    run: &RunFolder,
    silent: bool,
) -> Result<Value> {
    let changes: Vec<Vec<f64>> = responses.iter().map(|r| r.changes.clone()).collect();
    let mut judged = Vec::new();
    for folder in &args.scores {
        let (scores, scored) = scores_of(folder, wanted, queries, args)?;
        let n_queries = ScoreTable::open(folder)?.queries().len().max(1) as f64;
        let total = scored.and_then(|run| run.manifest().timings.get("total").copied());
        let name = folder.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let agreement = judge(&scores, &changes, epsilon, seed);
        judged.push(Judged { name, seconds: total.map(|s| s / n_queries), agreement });
    }
    let unconverged: Vec<&str> = responses.iter().filter(|r| !r.converged).map(|r| r.train_id.as_str()).collect();
    let evaluations = responses.iter().map(|r| r.evaluations).sum::<u64>() as f64 / responses.len().max(1) as f64;
    if !silent {
        print(&table(&judged, responses.len(), queries.len(), unconverged.len(), evaluations));
    }
    let methods = judged.iter().map(|j| {
        let mut value = json!(j.agreement);
        value["method"] = json!(j.name);
        value["seconds_per_query"] = json!(j.seconds);
        value
    });
    Ok(json!({
        "responses": run.path(),
        "epsilon": epsilon,
        "lambda": run.manifest().spec.config["lambda"],
        "train_examples": responses.len(),
        "queries": queries.iter().map(|q| q.id.as_str()).collect::<Vec<_>>(),
        "unconverged": unconverged,
        "gradients_per_example": evaluations,
        "seconds": run.manifest().timings,
        "methods": methods.collect::<Vec<_>>(),
    }))
}

/// For people.
fn table(judged: &[Judged], n_train: usize, n_queries: usize, unconverged: usize, evaluations: f64) -> String {
    let mut text = format!(
        "{n_train} training examples x {n_queries} queries, {evaluations:.0} gradients per example, {unconverged} not \
         converged\n{:<16} {:^22} {:^22} {:>7} {:>7} {:>7} {:>9}",
        "method", "pearson (95 %)", "spearman (95 %)", "pooled", "ranks", "slope", "s/query"
    );
    for Judged { name, seconds, agreement: a } in judged {
        let interval = |[value, low, high]: [f64; 3]| format!("{value:.3} ({low:.3}, {high:.3})");
        let seconds = seconds.map_or_else(|| "-".to_owned(), |s| format!("{s:.2}"));
        text += &format!(
            "\n{name:<16} {:^22} {:^22} {:>7.3} {:>7.3} {:>7.3} {seconds:>9}",
            interval(a.pearson),
            interval(a.spearman),
            a.pooled_pearson[0],
            a.pooled_spearman[0],
            a.slope
        );
    }
    text
}
