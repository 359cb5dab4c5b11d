//! Real training of an edited curriculum.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use etymon_data::{BatchLimits, Example, ExampleIndex};
use etymon_store::{read_json, write_json_atomic};
use etymon_tensor::Cpu;
use etymon_train::{Job, Loaded, Observer, Order, Plan, Progress, Trainer, losses};
use serde::{Deserialize, Serialize};

use super::super::Context;
use super::question::Question;
use crate::error::{CliError, Result};
use crate::open::Work;
use crate::progress::Task;

/// Most that two first losses of the same example may differ, relatively: rounding of other batches.
const TOLERANCE: f64 = 1e-3;

/// A training that is checked and ready.
pub struct Verification {
    trainer: Trainer<Work>,
    /// `[Q]` Places of the queries among the watched examples.
    queries: Vec<usize>,
}

/// What was really measured.
#[derive(Serialize, Deserialize)]
pub struct Trained {
    /// `[measured]` Steps.
    pub steps: Vec<u64>,
    /// `[measured][Q]` Losses.
    pub losses: Vec<Vec<f64>>,
    pub seconds: f64,
}

impl Verification {
    /// Reads what the configuration names, and checks that it has the examples of the curriculum and starts as the recorded
    /// run did.
    pub fn open(config: &Path, question: &Question) -> Result<Self> {
        let Loaded { model, train, watched, plan, .. } = Job::read(config)?.load(Cpu::<f32>::new())?;
        let indices: BTreeMap<&str, ExampleIndex> = train.iter().map(|e| (e.id.as_str(), e.index)).collect();
        let place = |&i: &usize| known(&question.simulator.train_ids()[i], &indices, "training example");
        let batch = |batch: &Vec<usize>| batch.iter().map(place).collect::<Result<Vec<_>>>();
        let batches = question.edited.batches.iter().map(batch).collect::<Result<Vec<_>>>()?;
        let places: BTreeMap<&str, usize> = watched.iter().map(id).zip(0..).collect();
        let queries = question.simulator.query_ids().iter().map(|id| known(id, &places, "watched example"));
        let queries = queries.collect::<Result<Vec<_>>>()?;
        let plan = Plan {
            order: Order::Curriculum(batches),
            learning_rates: Some(question.edited.learning_rates.clone()),
            length: etymon_train::Length::Epochs(1),
            excluded: Vec::new(),
            checkpoint_every: None,
            ..plan
        };
        let limits = BatchLimits { max_rows: plan.micro_batch_rows, max_examples: usize::MAX };
        check_start(&losses(&model, &watched, limits)?, &queries, question)?;
        Ok(Self { trainer: Trainer::new(model, train, watched, plan)?, queries })
    }

    /// Trains, unless `file` has the result of this training already; leaves it there.
    pub fn trained(self, file: &Path, context: Context) -> Result<Trained> {
        if file.exists() {
            context.reporter.say("trained already, the result is read");
            return Ok(read_json(file)?);
        }
        let trained = self.train(context)?;
        write_json_atomic(file, &trained)?;
        Ok(trained)
    }

    fn train(mut self, context: Context) -> Result<Trained> {
        let started = Instant::now();
        let task = context.reporter.task("train", self.trainer.n_steps(), 0, "steps");
        let mut seen = Seen { queries: self.queries, task, measured: Vec::new() };
        self.trainer.run(&mut seen)?;
        seen.task.finish();
        let (steps, losses) = seen.measured.into_iter().unzip();
        Ok(Trained { steps, losses, seconds: started.elapsed().as_secs_f64() })
    }
}

/// The first losses must be those of the recorded run.
fn check_start(losses: &[f64], queries: &[usize], question: &Question) -> Result<()> {
    let ids = question.simulator.query_ids().iter();
    for ((id, &q), first) in ids.zip(queries).zip(&question.first) {
        let loss = losses[q];
        if (loss - first).abs() > TOLERANCE * first.abs().max(1e-3) {
            let problem = format!(
                "the loss of `{id}` is {loss} before the first step, {first} in the recorded run: the configuration is of \
                 another model, or of other watched rows"
            );
            return Err(CliError::Usage { option: "--verify", problem });
        }
    }
    Ok(())
}

fn id(example: &Example) -> &str {
    &example.id
}

fn known<T: Copy>(id: &str, among: &BTreeMap<&str, T>, what: &str) -> Result<T> {
    among.get(id).copied().ok_or_else(|| CliError::Usage {
        option: "--verify",
        problem: format!("the configuration has no {what} `{id}`; is it that of the recorded runs?"),
    })
}

/// Keeps the losses of the queries.
struct Seen {
    queries: Vec<usize>,
    task: Task,
    measured: Vec<(u64, Vec<f64>)>,
}

impl Observer for Seen {
    fn watched(&mut self, step: u64, losses: &[f64]) {
        self.measured.push((step, self.queries.iter().map(|&q| losses[q]).collect()));
    }

    fn step(&mut self, progress: &Progress<'_>) {
        self.task.advance(1, progress.n_rows as u64);
    }
}
