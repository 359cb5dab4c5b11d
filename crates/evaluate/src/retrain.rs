//! Training of many worlds, remembered by content.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use etymon_data::{BatchLimits, Example};
use etymon_model::Model;
use etymon_store::{Dtype, TensorFile, TensorWriter};
use etymon_tensor::Backend;
use etymon_train::{Plan, Trainer, Workers, run_bytes, without_texts};

use crate::digest::Base;
use crate::world::{Finetuning, Probe, Start, World};
use crate::{EvaluateError, Result};

/// What the probes saw in one world: `[probes][examples]`.
pub type Values = Vec<Vec<f64>>;

/// Told when a world is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Trained.
    Trained,
    /// Read from its file.
    Read,
}

/// The worlds that were asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Trained {
    /// `[worlds]` In the order asked for.
    pub values: Vec<Values>,
    /// How many different worlds were trained.
    pub n_trained: usize,
    /// How many different worlds were read.
    pub n_read: usize,
}

/// Trains one plan on one train set, again and again, without some examples.
#[derive(Clone, Debug)]
pub struct Retraining<B: Backend> {
    start: Start<B>,
    train: Vec<Example>,
    plan: Plan,
    then: Option<Finetuning>,
    probes: Vec<Probe>,
    base: Base,
    folder: Option<PathBuf>,
}

impl<B: Backend> Retraining<B> {
    /// Trains `plan` from `start` on `train`, the whole train set; examples that the plan itself excludes are excluded in
    /// every world. If `then` follows, the probes look at the model that it made. The result of a world is kept in `folder`, if there is one, in a file named by everything that
    /// determines it.
    ///
    /// # Errors
    /// Two probes of one name; a plan or examples that training refuses.
    pub fn new(
        start: Start<B>,
        train: Vec<Example>,
        plan: Plan,
        then: Option<Finetuning>,
        probes: Vec<Probe>,
        folder: Option<&Path>,
    ) -> Result<Self> {
        for (i, probe) in probes.iter().enumerate() {
            if probes[..i].iter().any(|p| p.name == probe.name) {
                return Err(EvaluateError::ProbeName { name: probe.name.to_owned() });
            }
        }
        // What is refused is refused before the first world.
        let plan = Plan { watch_every: 1, checkpoint_every: None, ..plan };
        let train = without_texts(train);
        Trainer::new(start.model().clone(), train.clone(), Vec::new(), plan.clone())?;
        let then = then.map(|then| Finetuning { train: without_texts(then.train), ..then });
        let last = match &then {
            Some(then) => second(then, start.model(), plan.seed, plan.seed)?.into_model(),
            None => start.model().clone(),
        };
        for example in probes.iter().flat_map(|p| &p.examples) {
            last.check(example)?;
        }
        let base = Base::new(&start, &train, &plan, then.as_ref(), &probes);
        Ok(Self { start, train, plan, then, probes, base, folder: folder.map(Path::to_path_buf) })
    }

    /// Bytes that one world needs in training, about.
    pub fn bytes_per_world(&self) -> u64 {
        let second = self.then.as_ref().map_or(0, |t| run_bytes(self.start.model(), &t.train, &[], &t.plan));
        run_bytes(self.start.model(), &self.train, &[], &self.plan).max(second)
    }

    /// How many of the worlds are not in the folder.
    pub fn n_missing(&self, worlds: &[World]) -> usize {
        self.unique(worlds).iter().filter(|(key, _)| !self.file(key).is_some_and(|file| file.exists())).count()
    }

    /// Trains the worlds, or reads what was trained before; a world that is asked for twice is trained once. Each result
    /// is on the disk as soon as it is there, so that an interrupted call loses only the worlds under way.
    ///
    /// # Errors
    /// The first world that fails; the disk.
    pub fn run(&self, worlds: &[World], workers: Workers, progress: &(dyn Fn(Progress) + Sync)) -> Result<Trained> {
        let unique: Vec<(String, &World)> = self.unique(worlds).into_iter().collect();
        let results = workers.run(unique.len(), |i| {
            let (key, world) = &unique[i];
            let result = self.one(key, world)?;
            progress(result.1);
            Ok::<_, EvaluateError>(result)
        })?;
        let mut by_key = BTreeMap::new();
        let (mut n_trained, mut n_read) = (0, 0);
        for ((key, _), (values, how)) in unique.iter().zip(results) {
            *(if how == Progress::Trained { &mut n_trained } else { &mut n_read }) += 1;
            by_key.insert(key.as_str(), values);
        }
        let values = worlds.iter().filter_map(|w| by_key.get(self.base.key(w).as_str()).cloned()).collect();
        Ok(Trained { values, n_trained, n_read })
    }

    fn unique<'a>(&self, worlds: &'a [World]) -> BTreeMap<String, &'a World> {
        worlds.iter().map(|world| (self.base.key(world), world)).collect()
    }

    fn file(&self, key: &str) -> Option<PathBuf> {
        self.folder.as_ref().map(|folder| folder.join(format!("{key}.safetensors")))
    }

    fn one(&self, key: &str, world: &World) -> Result<(Values, Progress)> {
        let file = self.file(key);
        if let Some(file) = file.as_ref().filter(|file| file.exists()) {
            return Ok((self.read(file)?, Progress::Read));
        }
        let values = self.train(world).map_err(|error| match error {
            EvaluateError::Train(source) => {
                let (seed, excluded) = (world.seed, world.excluded().len());
                EvaluateError::World { seed, excluded, source: Box::new(source) }
            }
            other => other,
        })?;
        if let Some(file) = &file {
            self.write(file, world, &values)?;
        }
        Ok((values, Progress::Trained))
    }

    fn train(&self, world: &World) -> Result<Values> {
        let mut excluded = [self.plan.excluded.as_slice(), world.excluded()].concat();
        excluded.sort_unstable();
        excluded.dedup();
        let plan = Plan { seed: world.seed, excluded, ..self.plan.clone() };
        let limits = BatchLimits { max_rows: plan.micro_batch_rows, max_examples: usize::MAX };
        let mut trainer = Trainer::new(self.start.of(world.seed)?, self.train.clone(), Vec::new(), plan)?;
        trainer.run(&mut ())?;
        if let Some(then) = &self.then {
            trainer = second(then, trainer.model(), world.seed, self.plan.seed)?;
            trainer.run(&mut ())?;
        }
        self.probes.iter().map(|probe| probe.look(trainer.model(), limits)).collect()
    }

    fn write(&self, file: &Path, world: &World, values: &Values) -> Result<()> {
        let shapes: Vec<[usize; 1]> = values.iter().map(|v| [v.len()]).collect();
        let declared: Vec<(&str, Dtype, &[usize])> =
            self.probes.iter().zip(&shapes).map(|(p, shape)| (p.name, Dtype::F64, shape.as_slice())).collect();
        let facts = [("seed", world.seed.to_string()), ("excluded", world.excluded().len().to_string())];
        let metadata = facts.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
        let mut writer = TensorWriter::create(file, &declared, &metadata)?;
        for (probe, values) in self.probes.iter().zip(values) {
            writer.write_f64(probe.name, values)?;
        }
        Ok(writer.finish()?)
    }

    fn read(&self, path: &Path) -> Result<Values> {
        let file = TensorFile::open(path)?;
        let read = |probe: &Probe| {
            let values = file.read_f64(probe.name)?;
            let (got, expected) = (values.len(), probe.examples.len());
            if got == expected {
                return Ok(values);
            }
            Err(EvaluateError::WorldFile { path: path.to_owned(), probe: probe.name.to_owned(), got, expected })
        };
        self.probes.iter().map(read).collect()
    }
}

/// The second stage of a world with `seed`, from what the first one made; `first` is the seed of the first plan.
fn second<B: Backend>(then: &Finetuning, pretrained: &Model<B>, seed: u64, first: u64) -> Result<Trainer<B>> {
    let seed = then.plan.seed.wrapping_add(seed.wrapping_sub(first));
    let (start, tie) = then.finetune.start(pretrained, seed)?;
    let plan = Plan { seed, tie: Some(tie), watch_every: 1, checkpoint_every: None, ..then.plan.clone() };
    Ok(Trainer::new(start, then.train.clone(), Vec::new(), plan)?)
}
