//! The loop: batch, gradient, clipping, update.

use std::path::Path;
use std::time::Instant;

use etymon_data::{Batch, BatchLimits, Content, Example, ExampleIndex, Padding};
use etymon_model::{Consumer, Model, Objective, Params};
use etymon_tensor::Backend;
use serde_json::Map;

use crate::batching::Batching;
use crate::checkpoint::{self, Hash, State};
use crate::evaluate::{losses, ranges};
use crate::finetune::Pull;
use crate::observer::{Observer, Progress};
use crate::optimizer::OptimizerState;
use crate::output::{Output, Timings};
use crate::plan::Plan;
use crate::{Result, TrainError};

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All steps were made.
    Finished,
    /// The observer stopped it.
    Stopped,
}

/// A model in training.
#[derive(Debug)]
pub struct Trainer<B: Backend> {
    model: Model<B>,
    train: Vec<Example>,
    watched: Vec<Example>,
    plan: Plan,
    batching: Batching,
    optimizer: OptimizerState<B>,
    /// What ties the run to the model that it starts at.
    pull: Option<Pull<B>>,
    /// Steps made.
    step: u64,
    /// Hash of the train set.
    train_hash: String,
    output: Option<Output>,
}

/// What one step did.
struct Step {
    batch: Vec<usize>,
    loss: f64,
    learning_rate: f64,
    gradient_norm: f64,
    n_rows: usize,
}

impl<B: Backend> Trainer<B> {
    /// A run of `plan` that starts at `model`. `train` is the whole train set, also where the plan excludes some of it;
    /// texts and metadata of the examples are dropped. The losses of `watched` are measured along the way.
    ///
    /// # Errors
    /// A plan with a number out of range, examples that the model does not take, an empty train set, lists of the plan
    /// that name unknown examples.
    pub fn new(model: Model<B>, train: Vec<Example>, watched: Vec<Example>, plan: Plan) -> Result<Self> {
        plan.check()?;
        check(&model, "train", &train)?;
        check(&model, "watched", &watched)?;
        let batching = Batching::new(&train, &plan)?;
        let (n_steps, given) = (batching.n_steps(), plan.learning_rates.as_ref().map(Vec::len));
        if let Some(given) = given.filter(|&given| given as u64 != n_steps) {
            return Err(TrainError::setting("learning_rates", format!("are {given}, of {n_steps} steps")));
        }
        let optimizer = OptimizerState::new(&model, &plan);
        let pull = plan.tie.as_ref().map(|tie| Pull::new(&model, tie)).transpose()?;
        let train_hash = Hash::of_examples(&train).to_string();
        let (train, watched) = (without_texts(train), without_texts(watched));
        Ok(Self { model, train, watched, plan, batching, optimizer, pull, step: 0, train_hash, output: None })
    }

    /// The run leaves its log, checkpoints and final model in a run folder.
    #[must_use]
    pub fn with_output(mut self, output: Output) -> Self {
        self.output = Some(output);
        self
    }

    /// Goes on from a checkpoint of the same run: what follows is what would have followed there, to the bit.
    ///
    /// # Errors
    /// A checkpoint that cannot be read, of other settings, other train examples or another model.
    pub fn resume(&mut self, checkpoint: &Path) -> Result<()> {
        let state = State::read(checkpoint)?;
        state.require_same_run(checkpoint, &self.state())?;
        checkpoint::read_tensors(checkpoint, &mut self.model, &mut self.optimizer)?;
        self.optimizer.updates = state.updates;
        self.step = state.step;
        Ok(())
    }

    /// Steps made.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Steps of the whole run.
    pub fn n_steps(&self) -> u64 {
        self.batching.n_steps()
    }

    /// The model as it is.
    pub fn model(&self) -> &Model<B> {
        &self.model
    }

    /// The model as it is, without the trainer.
    pub fn into_model(self) -> Model<B> {
        self.model
    }

    /// The examples of a step, of this run.
    pub fn batch(&mut self, step: u64) -> Vec<ExampleIndex> {
        self.batching.batch(step).into_iter().map(|p| self.train[p].index).collect()
    }

    /// Makes the steps that remain.
    ///
    /// # Errors
    /// [`TrainError::Diverged`], and what the disk refuses.
    pub fn run(&mut self, observer: &mut dyn Observer) -> Result<End> {
        let (started, mut timings) = (Instant::now(), Timings::default());
        if let Some(output) = &mut self.output {
            output.start(self.step)?;
        }
        observer.started(self.step, self.n_steps());
        loop {
            self.watch(observer, &mut timings)?;
            if self.step >= self.n_steps() {
                break;
            }
            if observer.should_stop() {
                self.checkpoint(observer)?;
                return Ok(End::Stopped);
            }
            self.one(observer)?;
            let due = self.plan.checkpoint_every.is_some_and(|every| self.step.is_multiple_of(every));
            if due {
                self.checkpoint(observer)?;
            }
        }
        if let Some(output) = self.output.take() {
            timings.insert("total", started.elapsed());
            output.complete(&self.model, timings)?;
        }
        Ok(End::Finished)
    }

    /// One step, told to the observer and the log.
    fn one(&mut self, observer: &mut dyn Observer) -> Result<()> {
        let started = Instant::now();
        let number = self.step;
        let step = self.advance()?;
        let seconds = started.elapsed().as_secs_f64();
        if let Some(output) = &mut self.output {
            let ids: Vec<String> = step.batch.iter().map(|&p| self.train[p].id.clone()).collect();
            output.step(number, step.learning_rate, &ids, step.loss)?;
        }
        let batch: Vec<ExampleIndex> = step.batch.iter().map(|&p| self.train[p].index).collect();
        observer.step(&Progress {
            step: number,
            n_steps: self.n_steps(),
            epoch: self.batching.place(number).0,
            batch: &batch,
            loss: step.loss,
            learning_rate: step.learning_rate,
            gradient_norm: step.gradient_norm,
            n_rows: step.n_rows,
            rows_per_second: step.n_rows as f64 / seconds.max(1e-9),
        });
        Ok(())
    }

    /// One batch, one update.
    fn advance(&mut self) -> Result<Step> {
        let batch = self.batching.batch(self.step);
        let given = self.plan.learning_rates.as_ref().and_then(|rates| rates.get(self.step as usize));
        let learning_rate = given.copied().unwrap_or_else(|| self.plan.learning_rate.at(self.step, self.n_steps()));
        let n_rows = batch.iter().map(|&p| self.train[p].n_rows()).sum();
        let (mut loss, mut norm) = (f64::NAN, 0.0);
        if !batch.is_empty() {
            let n_loss_rows = batch.iter().map(|&p| self.train[p].n_loss_rows()).sum();
            let mut scale = self.plan.reduction.scale(batch.len(), n_loss_rows);
            let (sum, mut grads) = self.gradients(&batch)?;
            let backend = self.model.backend().clone();
            if let Some(pull) = &self.pull {
                pull.apply(&backend, self.model.params(), &mut grads, 1.0 / scale)?;
            }
            loss = sum * scale;
            norm = norm_of(&backend, &grads)? * scale;
            if !(loss.is_finite() && norm.is_finite()) {
                return Err(TrainError::Diverged { step: self.step, loss, norm });
            }
            if let Some(limit) = self.plan.clip_norm.filter(|&limit| norm > limit) {
                scale *= limit / norm;
            }
            if scale != 1.0 {
                grads.iter_mut().for_each(|g| backend.scale(scale, g));
            }
            self.optimizer.update(&backend, self.model.params_mut(), &grads, learning_rate)?;
        }
        self.step += 1;
        Ok(Step { batch, loss, learning_rate, gradient_norm: norm, n_rows })
    }

    /// Σ L over a batch, and its gradient.
    fn gradients(&self, batch: &[usize]) -> Result<(f64, Params<B>)> {
        // Fresh zeros: scaling the old gradient by 0 would leave signs behind that a resumed run does not have.
        let mut grads = self.model.zero_gradients();
        let mut sum = 0.0;
        for range in ranges(batch.iter().map(|&p| self.train[p].n_rows()), self.limits()) {
            let examples: Vec<Example> = batch[range].iter().map(|&p| self.train[p].clone()).collect();
            let stacked = Batch::stack(&examples, Padding::None)?;
            let values = self.model.run(&stacked, Objective::TrainLoss, Consumer::Gradients(&mut grads))?;
            sum += values.iter().sum::<f64>();
        }
        Ok((sum, grads))
    }

    /// Measures the watched examples, if it is time.
    fn watch(&mut self, observer: &mut dyn Observer, timings: &mut Timings) -> Result<()> {
        let due = self.step.is_multiple_of(self.plan.watch_every) || self.step == self.n_steps();
        if self.watched.is_empty() || !due {
            return Ok(());
        }
        let started = Instant::now();
        let values = losses(&self.model, &self.watched, self.limits())?;
        timings.insert("watch", started.elapsed());
        if let Some(output) = &mut self.output {
            let ids: Vec<String> = self.watched.iter().map(|e| e.id.clone()).collect();
            output.losses(self.step, &ids, &values)?;
        }
        observer.watched(self.step, &values);
        Ok(())
    }

    fn checkpoint(&mut self, observer: &mut dyn Observer) -> Result<()> {
        let state = self.state();
        if let Some(output) = &mut self.output {
            let folder = output.checkpoint(&self.model, &self.optimizer, &state)?;
            observer.checkpoint(&folder);
        }
        Ok(())
    }

    fn state(&self) -> State {
        let (epoch, position) = self.batching.place(self.step);
        let plan = serde_json::to_value(&self.plan).unwrap_or_default();
        let (n_train, n_steps) = (self.train.len() as u64, self.n_steps());
        let (step, updates, train_hash) = (self.step, self.optimizer.updates, self.train_hash.clone());
        State { format_version: 1, step, n_steps, epoch, position, updates, plan, n_train, train_hash }
    }

    fn limits(&self) -> BatchLimits {
        BatchLimits { max_rows: self.plan.micro_batch_rows, max_examples: usize::MAX }
    }
}

fn check<B: Backend>(model: &Model<B>, set: &'static str, examples: &[Example]) -> Result<()> {
    examples.iter().try_for_each(|example| {
        let wrong = |e| TrainError::Example { set, id: example.id.clone(), source: Box::new(e) };
        model.check(example).map_err(wrong)
    })
}

/// The examples without what only people read.
pub fn without_texts(examples: Vec<Example>) -> Vec<Example> {
    let strip = |e: Example| Example { text: String::new(), metadata: Map::new(), ..e };
    examples.into_iter().map(strip).collect()
}

/// Euclidean norm over all parameters.
fn norm_of<B: Backend>(backend: &B, grads: &Params<B>) -> Result<f64> {
    let squares = grads.iter().map(|g| Ok(backend.dot(g, g)?)).collect::<Result<Vec<f64>>>()?;
    Ok(squares.iter().sum::<f64>().sqrt())
}

impl Hash {
    /// Hash of indices and contents, in order.
    pub(crate) fn of_examples(examples: &[Example]) -> Self {
        let mut hash = Self::default();
        for example in examples {
            hash.add(example.index.0);
            match &example.content {
                Content::Tokens { ids, loss_start } => {
                    hash.add(ids.len() as u64);
                    hash.add(*loss_start as u64);
                    ids.iter().for_each(|&id| hash.add(u64::from(id)));
                }
                Content::Features { values, target } => {
                    hash.add(values.len() as u64);
                    values.iter().for_each(|v| hash.add(u64::from(v.to_bits())));
                    match target {
                        etymon_data::Target::Class(class) => hash.add(u64::from(*class)),
                        etymon_data::Target::Values(v) => v.iter().for_each(|v| hash.add(u64::from(v.to_bits()))),
                    }
                }
            }
        }
        hash
    }
}
