//! `etymon score`.

use std::collections::BTreeMap;
use std::time::Instant;

use etymon_attribution::{Parts, Queries, QueryValue, Rank, ScoreSink, Tee, TopK, behind, score, self_influence};
use etymon_curvature::{CurvatureError, Factors, Preconditioner, Spectrum};
use etymon_data::{BatchLimits, CandidateFilter, Corpus, DataError, Example, ExampleIndex, union_of};
use etymon_model::{Measurement, Model, ModelConfig, ModelError, Task};
use etymon_store::{Opened as Folder, Overwrite, RunFolder, RunSpec, require_space};
use serde_json::{Value, json};

use super::plan::Planned;
use super::{CommandResult, Context, Outcome};
use crate::args::{MeasurementArg, PerToken, ScoreArgs, ScoreMethod};
use crate::error::{CliError, Result};
use crate::estimate::{Load, Phase, Scoring, batch_rows, peak};
use crate::open::{
    Counted, Opened, Work, count_examples, data_fingerprints, model_fingerprints, open_corpus, open_model,
    read_queries, require_same_model, tokenizer_fingerprint, with_reading,
};
use crate::tables::{Tables, replay, write_queries, write_top};

/// Names of the tables' own columns.
const RESERVED: [&str; 5] = ["", "train_id", "layer", "position", "token"];

pub fn run(args: &ScoreArgs, context: Context) -> CommandResult {
    let mut opened = open_model(&args.model, args.pass.dtype.precision())?;
    let factors = open_factors(args, &mut opened.model)?;
    let corpus = open_corpus(&opened, &args.data)?;
    let queries = if args.self_influence { Vec::new() } else { open_queries(args, &opened)? };
    let filter = args.filter.as_deref().map(parse_filter).transpose()?;
    let counted = count_examples(&opened.model, &corpus, args.data.max_rows)?;
    let (batch_rows, _) = estimate(args, &opened.model, &counted, &queries)?;
    require_space(&args.out.out, disk_bytes(args, &opened.model, &counted, queries.len().max(1)))?;
    context.reporter.say(format!("score {}: {}", args.method.name(), counted.describe()));
    let mut run = match open_folder(args, &opened.model, &corpus)? {
        Folder::AlreadyComplete(run) => {
            context.reporter.say(format!("{} is complete already", run.path().display()));
            return Ok(Outcome::Done(result(&run)));
        }
        Folder::Created(run) | Folder::Resumed(run) => run,
    };
    let clock = Clock::start();
    let mut job = Job { args, context, opened: &opened, corpus: &corpus, counted: &counted, batch_rows, clock };
    let preconditioner = match (&factors, args.method) {
        (Some(factors), ScoreMethod::Ekfac) => {
            Preconditioner::Kronecker { factors, spectrum: Spectrum::Corrected, damping: args.damping }
        }
        (Some(factors), _) => {
            Preconditioner::Kronecker { factors, spectrum: Spectrum::Kronecker, damping: args.damping }
        }
        (None, _) => Preconditioner::Identity,
    };
    let scored = if args.self_influence {
        job.self_influence(&mut run, preconditioner)?
    } else {
        job.influence(&mut run, &queries, preconditioner, filter)?
    };
    // What was noted for resuming stays: a crash before the last line must not lose the tables.
    let mut progress = run.manifest().progress.as_object().cloned().unwrap_or_default();
    progress.insert("rows".to_owned(), json!(scored));
    progress.insert("n_train".to_owned(), json!(args.n_train.unwrap_or(counted.examples)));
    progress.insert("data".to_owned(), counted.json());
    let names: Vec<&str> = opened.model.layers().iter().map(|l| l.name.as_str()).collect();
    progress.insert("layers".to_owned(), json!(names));
    run.update_progress(Value::Object(progress))?;
    let run = run.complete(job.clock.stop())?;
    context.reporter.say(format!("scores in {}", run.path().display()));
    Ok(Outcome::Done(result(&run)))
}

struct Job<'a> {
    args: &'a ScoreArgs,
    context: Context,
    opened: &'a Opened,
    corpus: &'a Corpus,
    counted: &'a Counted,
    batch_rows: usize,
    clock: Clock,
}

/// Seconds per phase, and in all.
struct Clock {
    started: Instant,
    lap: Instant,
    seconds: BTreeMap<String, f64>,
}

impl Clock {
    fn start() -> Self {
        Self { started: Instant::now(), lap: Instant::now(), seconds: BTreeMap::new() }
    }

    /// Ends a phase.
    fn lap(&mut self, phase: &str) {
        self.seconds.insert(phase.to_owned(), self.lap.elapsed().as_secs_f64());
        self.lap = Instant::now();
    }

    fn stop(mut self) -> BTreeMap<String, f64> {
        self.seconds.insert("total".to_owned(), self.started.elapsed().as_secs_f64());
        self.seconds
    }
}

impl Job<'_> {
    fn influence(
        &mut self,
        run: &mut RunFolder,
        examples: &[Example],
        preconditioner: Preconditioner<'_>,
        filter: Option<usize>,
    ) -> Result<u64> {
        let (args, model) = (self.args, &self.opened.model);
        self.context.reporter.say(format!("  preparing {} queries", examples.len()));
        let queries = Queries::prepare(model, examples, measurement(args), preconditioner, rank(args), self.limits())?;
        let candidates = self.candidates(examples, filter)?;
        self.clock.lap("queries");
        let total = candidates.as_ref().map_or(self.counted.examples, |c| c.len() as u64);
        let parts = Parts { layers: args.per_layer, tokens: args.per_token == Some(PerToken::All) };
        let ids: Vec<String> = queries.values.iter().map(|v| v.id.clone()).collect();
        let folder = run.path().to_owned();
        let mut tables = Tables::open(run, &ids, model.layers(), parts, self.opened.encoder.as_ref())?;
        let mut top = TopK::new(args.top, ids.len());
        let done = tables.rows_done();
        if done > 0 {
            self.context.reporter.say(format!("  resuming after {done} rows"));
            replay(&folder, self.examples(candidates.as_deref(), 0), &mut top)?;
        }
        let mut task = Some(self.context.reporter.task("scores", total, done, "rows"));
        {
            let mut progress = Progress { task: task.as_ref() };
            let rest = self.examples(candidates.as_deref(), done);
            behind(&mut tables, |tables| {
                let mut sinks = Tee(vec![tables, &mut top, &mut progress]);
                score(model, &queries, rest, self.limits(), parts, &mut sinks)
            })?;
        }
        if let Some(task) = task.take() {
            task.finish();
        }
        let rows = tables.finish()?;
        self.clock.lap("scores");
        let ranked = top.finish();
        write_queries(run.path(), self.opened, examples, &queries.values)?;
        let wanted = Parts { layers: args.per_layer, tokens: args.per_token.is_some() };
        let parts = (wanted != Parts::default()).then_some((&queries, wanted, self.limits()));
        let task = self.context.reporter.task("top rows", queries.len() as u64, 0, "queries");
        write_top(run.path(), self.opened, &queries.values, parts, &ranked, &|| task.advance(1, 0))?;
        task.finish();
        self.clock.lap("top");
        Ok(rows)
    }

    fn self_influence(&mut self, run: &mut RunFolder, preconditioner: Preconditioner<'_>) -> Result<u64> {
        let ids = vec!["self".to_owned()];
        let model = &self.opened.model;
        let folder = run.path().to_owned();
        let mut tables = Tables::open(run, &ids, model.layers(), Parts::default(), None)?;
        let mut top = TopK::new(self.args.top, 1);
        let done = tables.rows_done();
        if done > 0 {
            replay(&folder, self.examples(None, 0), &mut top)?;
        }
        let task = self.context.reporter.task("self-influence", self.counted.examples, done, "rows");
        {
            let mut progress = Progress { task: Some(&task) };
            behind(&mut tables, |tables| {
                let mut sinks = Tee(vec![tables, &mut top, &mut progress]);
                self_influence(model, preconditioner, self.examples(None, done), self.limits(), &mut sinks)
            })?;
        }
        task.finish();
        let rows = tables.finish()?;
        self.clock.lap("scores");
        let values = [QueryValue { id: "self".to_owned(), measurement: 0.0 }];
        write_queries(run.path(), self.opened, &[], &values)?;
        write_top(run.path(), self.opened, &values, None, &top.finish(), &|| ())?;
        Ok(rows)
    }

    /// The examples to score, from row `first` of the table on.
    fn examples<'a>(
        &'a self,
        candidates: Option<&'a [ExampleIndex]>,
        first: u64,
    ) -> Box<dyn Iterator<Item = std::result::Result<Example, DataError>> + Send + 'a> {
        let most = self.args.data.max_rows.unwrap_or(u64::MAX);
        match candidates {
            None => {
                let stream = self.corpus.examples_from(ExampleIndex(first)).on_this_thread();
                Box::new(stream.take(usize::try_from(most.saturating_sub(first)).unwrap_or(usize::MAX)))
            }
            Some(all) => {
                let wanted = &all[(first as usize).min(all.len())..];
                let start = wanted.first().copied().unwrap_or(ExampleIndex(u64::MAX));
                let keep = move |e: &std::result::Result<Example, DataError>| match e {
                    Ok(example) => wanted.binary_search(&example.index).is_ok(),
                    Err(_) => true,
                };
                // After the last candidate, nothing more is read.
                Box::new(self.corpus.examples_from(start).on_this_thread().filter(keep).take(wanted.len()))
            }
        }
    }

    fn candidates(&self, queries: &[Example], filter: Option<usize>) -> Result<Option<Vec<ExampleIndex>>> {
        let Some(keep) = filter else { return Ok(None) };
        let most = self.args.data.max_rows.map_or(usize::MAX, |n| n as usize);
        let union = union_of(&CandidateFilter::tfidf(keep).within(most).select(self.corpus, queries)?);
        self.context.reporter.say(format!("  tfidf:{keep} keeps {} of {} rows", union.len(), self.counted.examples));
        Ok(Some(union))
    }

    fn limits(&self) -> BatchLimits {
        BatchLimits { max_rows: self.batch_rows, max_examples: usize::MAX }
    }
}

struct Progress<'a> {
    task: Option<&'a crate::progress::Task>,
}

impl ScoreSink for Progress<'_> {
    fn block(&mut self, block: &etymon_attribution::ScoreBlock<'_>) -> etymon_attribution::Result<()> {
        if let Some(task) = self.task {
            task.advance(block.examples.len() as u64, block.examples.iter().map(|e| e.n_tokens() as u64).sum());
        }
        Ok(())
    }
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

/// Opens the factors and taps the layers that they are of; refuses factors of another model.
fn open_factors(args: &ScoreArgs, model: &mut Model<Work>) -> Result<Option<Factors>> {
    if args.method == ScoreMethod::GradDot {
        return Ok(None);
    }
    let Some(folder) = &args.factors else {
        let problem = format!("is missing; --method {} needs the folder of `etymon fit`", args.method.name());
        return Err(CliError::Usage { option: "--factors", problem });
    };
    let run = RunFolder::open_complete(folder, "factors")?;
    require_same_model(&run, &args.model.model)?;
    if args.model.layers.is_none() {
        model.select_layers(run.manifest().spec.config["layers"].as_str())?;
    }
    let factors = Factors::open(folder, model.layers())?;
    if args.method == ScoreMethod::Ekfac && !factors.has_correction() {
        return Err(CurvatureError::NoCorrection.into());
    }
    Ok(Some(factors))
}

fn open_folder(args: &ScoreArgs, model: &Model<Work>, corpus: &Corpus) -> Result<Folder> {
    let mut inputs = model_fingerprints(&args.model.model)?;
    inputs.extend(tokenizer_fingerprint(&args.model)?);
    inputs.extend(data_fingerprints("data", corpus)?);
    for (i, path) in args.queries.iter().enumerate() {
        inputs.insert(format!("queries/{i:05}"), etymon_store::fingerprint(path)?);
    }
    if let Some(factors) = args.factors.as_ref().filter(|_| args.method != ScoreMethod::GradDot) {
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
        ("damping", json!((args.method != ScoreMethod::GradDot).then(|| args.damping.to_string()))),
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

/// Bytes of the tables: floats hardly compress.
fn disk_bytes(args: &ScoreArgs, model: &Model<Work>, counted: &Counted, n_queries: usize) -> u64 {
    let layers = if args.per_layer { model.layers().len() as u64 } else { 0 };
    let tokens = if args.per_token == Some(PerToken::All) { counted.tokens } else { 0 };
    4 * n_queries as u64 * (counted.examples * (1 + layers) + tokens)
}

fn measurement(args: &ScoreArgs) -> Measurement {
    match args.measurement {
        MeasurementArg::LogLikelihood => Measurement::LogLikelihood,
        MeasurementArg::Margin => Measurement::Margin,
    }
}

fn rank(args: &ScoreArgs) -> Rank {
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
        factors: args.method != ScoreMethod::GradDot,
        layers: args.per_layer,
        tokens: args.per_token == Some(PerToken::All),
        disk: disk_bytes(args, model, counted, queries.len().max(1)),
    }
}

/// Rows per batch, and what a score needs with them; refuses one for which memory does not suffice.
fn estimate(
    args: &ScoreArgs,
    model: &Model<Work>,
    counted: &Counted,
    queries: &[Example],
) -> Result<(usize, Vec<Phase>)> {
    let task = scoring(args, model, counted, queries);
    let phases = |batch_rows| Load { model, counted, pass: &args.pass, batch_rows }.score(&task);
    let longest = queries.iter().map(|q| q.n_rows() as u64).fold(counted.longest, u64::max);
    let rows = batch_rows(&args.pass, longest, |rows| peak(&phases(rows)))?;
    Ok((rows, phases(rows)))
}

/// Opens what a score would read, and counts what it would need.
pub fn plan(args: &ScoreArgs) -> Result<Planned> {
    let mut opened = open_model(&args.model, args.pass.dtype.precision())?;
    open_factors(args, &mut opened.model)?;
    let corpus = open_corpus(&opened, &args.data)?;
    let queries = if args.self_influence { Vec::new() } else { open_queries(args, &opened)? };
    args.filter.as_deref().map(parse_filter).transpose()?;
    let counted = count_examples(&opened.model, &corpus, args.data.max_rows)?;
    let (batch_rows, phases) = estimate(args, &opened.model, &counted, &queries)?;
    Ok(Planned { opened, corpus, batch_rows, phases })
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
