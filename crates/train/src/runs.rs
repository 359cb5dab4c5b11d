//! Many runs of one job, which differ in their curricula: what a simulator of training is fitted on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use etymon_data::{Example, ExampleIndex};
use etymon_store::{Opened, Overwrite, RunFolder, RunSpec};
use etymon_tensor::Backend;
use serde::Serialize;
use serde_json::json;

use crate::batching::{Batching, shuffle};
use crate::command::{Outcome, train_in};
use crate::job::Job;
use crate::load::Loaded;
use crate::observer::{Observer, Progress};
use crate::output::Output;
use crate::plan::{Order, Plan, Removal};
use crate::trainer::{Trainer, without_texts};
use crate::workers::{Workers, run_bytes};
use crate::{Result, TrainError};

/// In what the runs of a set differ. All start at the same model.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Variations {
    /// Run k has the stream `order` of the seed of the job + k: run 0 has the order of the job itself.
    pub order: bool,
    /// Run k trains on this part of the examples alone, > 0 and < 1, drawn from substream k of the stream `subset` of the
    /// job's seed. Batches are full: an epoch has fewer steps.
    pub subset: Option<f64>,
}

/// Told while runs go on, from several threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A run starts at a step, not 0 when it is resumed.
    Started {
        /// The step.
        step: u64,
    },
    /// A step was made.
    Step {
        /// Rows (tokens) that went through the model.
        n_rows: usize,
    },
    /// A run is complete.
    Finished,
}

/// The runs of a job: the folder `out` of the job has a run folder for each, `run-0000`, `run-0001`, ….
#[derive(Clone, Debug)]
pub struct Runs<B: Backend> {
    job: Job,
    loaded: Loaded<B>,
    spec: RunSpec,
    vary: Variations,
    keep_models: bool,
}

impl<B: Backend> Runs<B> {
    /// Reads and checks everything that the job names; nothing is written. Unless `keep_models`, the runs leave only their
    /// logs (and checkpoints, if the job has them).
    ///
    /// # Errors
    /// Inputs that cannot be read or do not fit together, no watched examples, variations that make all runs the same.
    pub fn open(backend: B, job: Job, vary: Variations, keep_models: bool) -> Result<Self> {
        if job.config.watch.is_empty() {
            let problem = "is missing: name the examples whose losses the runs record";
            return Err(TrainError::setting("watch", problem));
        }
        if vary.order && job.plan.order != Order::Shuffled {
            return Err(TrainError::setting("order", "is sequential; runs that vary in it need `shuffled`"));
        }
        let mut spec = job.spec()?;
        spec.config["runs"] = json!({ "vary": vary, "keep_models": keep_models });
        spec.seeds.insert("subset".to_owned(), job.config.seed);
        let mut loaded = job.load(backend)?;
        loaded.train = without_texts(loaded.train);
        loaded.watched = without_texts(loaded.watched);
        let runs = Self { job, loaded, spec, vary, keep_models };
        // What is refused is refused before the first run.
        runs.trainer(runs.plan(0)?)?;
        Ok(runs)
    }

    /// The plan of run `number`.
    ///
    /// # Errors
    /// A subset of no or of all examples.
    pub fn plan(&self, number: u64) -> Result<Plan> {
        let mut plan = self.loaded.plan.clone();
        if self.vary.order {
            plan.seed = plan.seed.wrapping_add(number);
        }
        if let Some(part) = self.vary.subset {
            plan.excluded = outside(&self.loaded.train, &self.loaded.plan, part, number)?;
            plan.removal = Removal::Refill;
        }
        Ok(plan)
    }

    /// Steps of a run.
    ///
    /// # Errors
    /// As [`Runs::plan`].
    pub fn n_steps(&self) -> Result<u64> {
        Ok(Batching::new(&self.loaded.train, &self.plan(0)?)?.n_steps())
    }

    /// Bytes that one run needs, about.
    pub fn bytes_per_run(&self) -> u64 {
        run_bytes(&self.loaded.model, &self.loaded.train, &self.loaded.watched, &self.loaded.plan)
    }

    /// The folder of run `number`.
    pub fn folder(&self, number: u64) -> PathBuf {
        self.job.out.join(run_name(number))
    }

    /// How many of the first `n` runs are not complete.
    pub fn n_missing(&self, n: u64) -> u64 {
        (0..n).filter(|&number| RunFolder::open_complete(&self.folder(number), "training").is_err()).count() as u64
    }

    /// Trains the first `n` runs, but for those that are complete; one that was interrupted goes on from its last
    /// checkpoint, or starts anew. The seconds per phase of all of them, in total. A set may grow: called again with a
    /// larger `n`, it trains the runs that are new.
    ///
    /// # Errors
    /// [`TrainError::Run`], the first run that fails; a folder with other runs.
    pub fn record(
        &self,
        n: u64,
        workers: Workers,
        overwrite: Overwrite,
        told: &(dyn Fn(Event) + Sync),
    ) -> Result<BTreeMap<String, f64>> {
        let spec = RunSpec { kind: "training runs".to_owned(), ..self.spec.clone() };
        let (Opened::Created(mut set) | Opened::Resumed(mut set) | Opened::AlreadyComplete(mut set)) =
            RunFolder::open_or_create(&self.job.out, spec, overwrite)?;
        let timings = workers.run(n as usize, |number| {
            let one = self.one(number as u64, told);
            one.map_err(|e| TrainError::Run { name: run_name(number as u64), source: Box::new(e) })
        })?;
        let runs = (0..n).map(|k| Ok(self.facts(k, &self.plan(k)?))).collect::<Result<Vec<_>>>()?;
        // A set that has more runs than were asked for now keeps them in its list.
        let known = set.manifest().progress["runs"].as_array().map_or(0, Vec::len);
        if runs.len() > known {
            set.update_progress(json!({ "runs": runs }))?;
        }
        let mut total: BTreeMap<String, f64> = BTreeMap::new();
        timings.iter().flatten().for_each(|(phase, seconds)| *total.entry(phase.clone()).or_default() += seconds);
        set.complete(total.clone())?;
        Ok(total)
    }

    fn one(&self, number: u64, told: &(dyn Fn(Event) + Sync)) -> Result<BTreeMap<String, f64>> {
        let folder = self.folder(number);
        let (name, tokenizer) = (run_name(number), self.loaded.tokenizer_json.clone());
        let merge = self.job.config.lora.as_ref().is_some_and(|lora| lora.merge);
        let output =
            |run: RunFolder| Output::new(run, &name, tokenizer).with_model(self.keep_models).with_merged(merge);
        let plan = self.plan(number)?;
        let mut spec = self.spec.clone();
        spec.config["runs"]["curriculum"] = self.facts(number, &plan);
        let trained = train_in(&folder, spec, Overwrite::Refuse, self.trainer(plan)?, output, &mut Told(told))?;
        if trained == Outcome::Finished {
            told(Event::Finished);
        }
        Ok(RunFolder::open_complete(&folder, "training")?.manifest().timings.clone())
    }

    fn trainer(&self, plan: Plan) -> Result<Trainer<B>> {
        let Loaded { model, train, watched, .. } = &self.loaded;
        Trainer::new(model.clone(), train.clone(), watched.clone(), plan)
    }

    /// What tells a run from the others.
    fn facts(&self, number: u64, plan: &Plan) -> serde_json::Value {
        let n_examples = self.loaded.train.len() - plan.excluded.len();
        let subset = self.vary.subset.map(|_| number);
        json!({ "run": run_name(number), "order_seed": plan.seed, "subset": subset, "n_examples": n_examples })
    }
}

/// The name of a run, and of its folder.
pub fn run_name(number: u64) -> String {
    format!("run-{number:04}")
}

/// The examples that do not take part in run `number`, in the order of the train set.
fn outside(train: &[Example], plan: &Plan, part: f64, number: u64) -> Result<Vec<ExampleIndex>> {
    let excluded: BTreeSet<ExampleIndex> = plan.excluded.iter().copied().collect();
    let mut left: Vec<usize> = (0..train.len()).filter(|&p| !excluded.contains(&train[p].index)).collect();
    let k = (part * left.len() as f64).round() as usize;
    if !(part > 0.0 && part < 1.0) || k == 0 || k == left.len() {
        let problem = format!("of {part} leaves {k} of {} examples; there must be fewer, and at least one", left.len());
        return Err(TrainError::setting("subset", problem));
    }
    shuffle(&mut left, b"subset", plan.seed, number);
    let mut kept = vec![false; train.len()];
    left[..k].iter().for_each(|&p| kept[p] = true);
    Ok(train.iter().zip(kept).filter(|(_, kept)| !kept).map(|(e, _)| e.index).collect())
}

/// Passes on what one run tells.
struct Told<'a>(&'a (dyn Fn(Event) + Sync));

impl Observer for Told<'_> {
    fn started(&mut self, step: u64, _: u64) {
        (self.0)(Event::Started { step });
    }

    fn step(&mut self, progress: &Progress<'_>) {
        (self.0)(Event::Step { n_rows: progress.n_rows });
    }
}
