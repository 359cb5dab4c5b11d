//! What most evaluations open: the training configuration, queries, score tables; and the retraining of worlds.

use std::path::{Path, PathBuf};
use std::time::Instant;

use etymon_data::{Encoder, Example, ExampleIndex};
use etymon_evaluate::find_methods;
use etymon_evaluate::{Finetuning, Method, MethodFolder, Observed, Probe, Progress, Retraining, Start, Trained, World};
use etymon_model::{Measurement, Model, Objective};
use etymon_tensor::Cpu;
use etymon_train::{Job, ModelSource, Plan, Removal, Workers};
use serde_json::{Value, json};

use super::super::Context;
use crate::args::{OnBadRow, RemovalArg, RetrainArgs, RowArgs, TruthArgs};
use crate::error::{CliError, Result};
use crate::machine::{Bytes, allowed_memory};
use crate::open::{Opened, Work, read_queries};

/// An opened training configuration with queries and score tables that fit to it.
pub struct Ground {
    pub job: Job,
    pub start: Start<Work>,
    pub train: Vec<Example>,
    pub plan: Plan,
    /// The second stage, if there is one.
    then: Option<Finetuning>,
    pub queries: Vec<Example>,
    pub measurement: Measurement,
    pub methods: Vec<MethodFolder>,
    retrain: RetrainArgs,
    worlds: PathBuf,
    context: Context,
}

impl Ground {
    /// Opens and checks everything; nothing is written.
    pub fn open(args: &TruthArgs, out: &Path, context: Context) -> Result<Self> {
        let (config, second) = stages(args)?;
        let (job, loaded, mut opened) = open_job(config)?;
        let mut rows = rows_of(&job);
        let then = second.map(|second| -> Result<Finetuning> {
            let (job, loaded, finetuned) = open_job(second)?;
            (opened, rows) = (finetuned, rows_of(&job));
            Ok(Finetuning { finetune: job.config.finetune.unwrap_or_default(), train: loaded.train, plan: loaded.plan })
        });
        let then = then.transpose()?;
        let mut queries = read_queries(&opened, &args.queries, &rows)?;
        queries.truncate(args.max_queries.unwrap_or(usize::MAX));
        let mut plan = loaded.plan;
        match args.retrain.removal {
            Some(RemovalArg::Refill) => plan.removal = Removal::Refill,
            Some(RemovalArg::Shrink) => plan.removal = Removal::Shrink,
            None => {}
        }
        let new = matches!(job.model, ModelSource::New(_));
        let start = if new { Start::New(loaded.model) } else { Start::At(loaded.model) };
        let ground = Self {
            job,
            start,
            train: loaded.train,
            plan,
            then,
            queries,
            measurement: args.measurement.into(),
            methods: find_methods(&args.scores)?,
            retrain: args.retrain.clone(),
            worlds: args.retrain.worlds.clone().unwrap_or_else(|| out.join("worlds")),
            context,
        };
        for method in &ground.methods {
            method.check(&ground.train_ids(), &ground.query_ids())?;
        }
        let (n, q) = (ground.train.len(), ground.queries.len());
        context.reporter.say(format!("{n} train examples, {q} queries, {} score tables", ground.methods.len()));
        Ok(ground)
    }

    /// The train examples' ids.
    pub fn train_ids(&self) -> Vec<String> {
        self.train.iter().map(|e| e.id.clone()).collect()
    }

    /// The queries' ids.
    pub fn query_ids(&self) -> Vec<String> {
        self.queries.iter().map(|e| e.id.clone()).collect()
    }

    /// Reads a score table; says so if it explains another scalar.
    pub fn read(&self, folder: &MethodFolder) -> Result<Method> {
        let method = folder.read(&self.train_ids(), &self.query_ids())?;
        say_if_other(&method, self.measurement.name(), self.context);
        Ok(method)
    }

    /// The measurement of every query.
    pub fn measured(&self) -> Probe {
        let observed = Observed::Value(Objective::Measurement(self.measurement));
        Probe { name: "measurement", examples: self.queries.clone(), observed }
    }

    /// Trains a world for each set of removed positions and each seed; `[sets][probes][examples]`, means over the seeds.
    pub fn retrained(&self, removed: &[Vec<usize>], probes: Vec<Probe>) -> Result<Retrained> {
        let index =
            |positions: &Vec<usize>| positions.iter().map(|&i| self.train[i].index).collect::<Vec<ExampleIndex>>();
        let seeds: Vec<u64> = (0..self.retrain.seeds as u64).map(|k| self.plan.seed + k).collect();
        let worlds: Vec<World> =
            removed.iter().flat_map(|set| seeds.iter().map(|&seed| World::without(index(set), seed))).collect();
        let (start, train, plan) = (self.start.clone(), self.train.clone(), self.plan.clone());
        let retraining = Retraining::new(start, train, plan, self.then.clone(), probes, Some(&self.worlds))?;
        let started = Instant::now();
        let trained = train_all(&retraining, &worlds, self.retrain.memory_limit, self.context)?;
        let per_seed: Vec<Vec<Vec<Vec<f64>>>> = trained.values.chunks(self.retrain.seeds).map(<[_]>::to_vec).collect();
        let facts = json!({
            "trained": trained.n_trained,
            "read": trained.n_read,
            "seconds": started.elapsed().as_secs_f64(),
            "worlds": self.worlds,
            "training_seeds": seeds,
            "removal": self.plan.removal,
        });
        Ok(Retrained { per_seed, facts })
    }

    /// What determines the figure.
    pub fn settings<const N: usize>(&self, own: [(&str, Value); N], seed: u64) -> Value {
        let shared = [
            ("config", serde_json::to_value(&self.job.config).unwrap_or_default()),
            ("finetune", json!(self.then.as_ref().map(|then| json!({ "tie": then.finetune, "plan": then.plan })))),
            ("n_train", json!(self.train.len())),
            ("n_queries", json!(self.queries.len())),
            ("measurement", json!(self.measurement.name())),
            ("seed", json!(seed)),
        ];
        own.into_iter().chain(shared).map(|(key, value)| (key.to_owned(), value)).collect()
    }
}

/// The configuration that rows are removed from, and that of a second stage, if there is one.
fn stages(args: &TruthArgs) -> Result<(&Path, Option<&Path>)> {
    match args.stages.as_slice() {
        [] => Ok((args.config.as_path(), None)),
        [first, second] => Ok((first.as_path(), Some(second.as_path()))),
        more => {
            let problem = format!("{} files; expected two, PRETRAIN.toml,FINETUNE.toml", more.len());
            Err(CliError::Usage { option: "--stages", problem })
        }
    }
}

/// Worlds that were trained.
pub struct Retrained {
    /// `[sets][seeds][probes][examples]`.
    pub per_seed: Vec<Vec<Vec<Vec<f64>>>>,
    /// For the result.
    pub facts: Value,
}

impl Retrained {
    /// `[sets][examples]` What a probe saw, mean over the seeds.
    pub fn means(&self, probe: usize) -> Vec<Vec<f64>> {
        let mean = |seeds: &Vec<Vec<Vec<f64>>>| {
            let n = seeds.first().map_or(0, |s| s[probe].len());
            (0..n).map(|i| seeds.iter().map(|s| s[probe][i]).sum::<f64>() / seeds.len() as f64).collect()
        };
        self.per_seed.iter().map(mean).collect()
    }
}

fn train_all(
    retraining: &Retraining<Work>,
    worlds: &[World],
    limit: Option<Bytes>,
    context: Context,
) -> Result<Trained> {
    let workers = Workers::choose(rayon::current_num_threads(), retraining.bytes_per_world(), allowed_memory(limit))?;
    let missing = retraining.n_missing(worlds);
    context
        .reporter
        .say(format!("{missing} retrainings, {} at a time on {} threads each", workers.runs, workers.threads));
    let bar = context.reporter.task("retrain", missing as u64, 0, "retrainings");
    let trained = retraining.run(worlds, workers, &|progress| {
        if progress == Progress::Trained {
            bar.advance(1, 0);
        }
    })?;
    bar.finish();
    Ok(trained)
}

/// Reads a training configuration and everything that it names.
pub fn open_job(config: &Path) -> Result<(Job, etymon_train::Loaded<Work>, Opened)> {
    let job = Job::read(config)?;
    let loaded = job.load(Cpu::<f32>::new())?;
    let encoder = loaded.tokenizer_json.as_ref().map(|json| Encoder::from_bytes(json.as_bytes())).transpose()?;
    let opened = Opened { model: loaded.model.clone(), encoder };
    Ok((job, loaded, opened))
}

/// How a configuration reads rows.
pub fn rows_of(job: &Job) -> RowArgs {
    let config = &job.config;
    RowArgs {
        format: config.format.clone(),
        label: config.label.clone(),
        max_tokens: config.max_tokens,
        on_bad_row: if config.skip_bad_rows { OnBadRow::Skip } else { OnBadRow::Fail },
    }
}

/// A note where scores explain another scalar than is measured.
pub fn say_if_other(method: &Method, measured: &str, context: Context) {
    if method.explains_other(measured) {
        let explains = method.measurement.as_deref().unwrap_or_default();
        context.reporter.say(format!("note: {} explains {explains}, measured is {measured}", method.name));
    }
}

/// Positions that are not in an ascending list.
pub fn complement(kept: &[usize], n: usize) -> Vec<usize> {
    (0..n).filter(|i| kept.binary_search(i).is_err()).collect()
}

/// A part of `n`, at least 1.
pub fn part_of(option: &'static str, fraction: f64, n: usize) -> Result<usize> {
    if !(fraction > 0.0 && fraction < 1.0) {
        return Err(CliError::Usage { option, problem: format!("must be between 0 and 1, is {fraction}") });
    }
    Ok(((fraction * n as f64).round() as usize).max(1))
}

/// The trained model of a configuration.
pub fn trained_model(job: &Job, given: Option<&PathBuf>) -> Result<Model<Work>> {
    let path = given.cloned().unwrap_or_else(|| job.out.join("model"));
    if !path.exists() {
        let problem = format!("there is no model in {}; run `etymon train` first, or name one", path.display());
        return Err(CliError::Usage { option: "--model", problem });
    }
    Ok(etymon_model::load(Cpu::<f32>::new(), &path)?)
}
