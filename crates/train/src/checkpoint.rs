//! Checkpoints: `checkpoint-000123/`, a model folder (or one of adapters) with `optimizer.safetensors` and `state.json`.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use etymon_model::{Model, ParamSpec, Params};
use etymon_store::{Dtype, RunSpec, TensorFile, TensorWriter, read_json, write_json_atomic};
use etymon_tensor::Backend;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::optimizer::OptimizerState;
use crate::schedule::LearningRate;
use crate::{Result, TrainError};

const STATE: &str = "state.json";
const OPTIMIZER: &str = "optimizer.safetensors";
const PREFIX: &str = "checkpoint-";
/// Prefix of parameters whose numbers do not fit into the f32 of model.safetensors.
const WIDE: &str = "param";

/// `state.json`: where in which run a checkpoint was taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Format of the checkpoint.
    pub format_version: u64,
    /// Steps made.
    pub step: u64,
    /// Steps of the whole run.
    pub n_steps: u64,
    /// Epoch of the next step.
    pub epoch: u64,
    /// The next step within its epoch.
    pub position: u64,
    /// Updates made: steps without those whose batch was empty.
    pub updates: u64,
    /// The plan, with the seed: random streams are functions of seed and epoch, so there is no other state of them.
    pub plan: Value,
    /// Number of train examples.
    pub n_train: u64,
    /// Hash of the train examples.
    pub train_hash: String,
}

impl State {
    /// Reads the state of a checkpoint.
    ///
    /// # Errors
    /// When the folder has none.
    pub fn read(checkpoint: &Path) -> Result<Self> {
        Ok(read_json(&checkpoint.join(STATE))?)
    }

    /// η of the step that follows; of the last one, at the end of the run.
    ///
    /// # Errors
    /// A plan that is none of ours.
    pub fn learning_rate(&self) -> Result<f64> {
        let rate = self.plan.get("learning_rate").cloned().unwrap_or_default();
        let rate: LearningRate = serde_json::from_value(rate).map_err(|e| {
            TrainError::setting("learning_rate", format!("in the plan of step {} cannot be read: {e}", self.step))
        })?;
        Ok(rate.at(self.step.min(self.n_steps.saturating_sub(1)), self.n_steps))
    }

    /// Refuses a checkpoint of other settings than `now`.
    pub(crate) fn require_same_run(&self, checkpoint: &Path, now: &Self) -> Result<()> {
        let differences = self.spec().differences(&now.spec());
        if differences.is_empty() {
            return Ok(());
        }
        Err(TrainError::OtherRun { path: checkpoint.to_owned(), differences })
    }

    fn spec(&self) -> RunSpec {
        let train = json!({ "examples": self.n_train, "hash": self.train_hash });
        let config = json!({
            "format_version": self.format_version, "plan": self.plan, "n_steps": self.n_steps, "train": train,
        });
        RunSpec { kind: "checkpoint".to_owned(), config, seeds: BTreeMap::new(), inputs: BTreeMap::new() }
    }
}

/// The checkpoints of a run folder with the number of steps made, first to last.
///
/// # Errors
/// A folder that cannot be read.
pub fn checkpoints(run: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let failed = |e| TrainError::folder("reading", run, e);
    let mut found = Vec::new();
    for entry in fs::read_dir(run).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let step = name.to_str().and_then(|n| n.strip_prefix(PREFIX)).and_then(|n| n.parse().ok());
        found.extend(step.map(|step| (step, entry.path())));
    }
    found.sort_unstable();
    Ok(found)
}

/// The last checkpoint of a run folder, if there is one.
///
/// # Errors
/// A folder that cannot be read.
pub fn latest_checkpoint(run: &Path) -> Result<Option<PathBuf>> {
    Ok(checkpoints(run)?.pop().map(|(_, path)| path))
}

/// Writes a checkpoint into a run folder; it appears whole or not at all.
pub(crate) fn write<B: Backend>(
    run: &Path,
    model: &Model<B>,
    tokenizer_json: Option<&str>,
    optimizer: &OptimizerState<B>,
    state: &State,
) -> Result<PathBuf> {
    let folder = run.join(format!("{PREFIX}{:06}", state.step));
    write_folder(&folder, |part| {
        etymon_model::save(model, part, tokenizer_json)?;
        write_tensors(&part.join(OPTIMIZER), model, optimizer)?;
        Ok(write_json_atomic(&part.join(STATE), state)?)
    })?;
    Ok(folder)
}

/// Writes a folder as `NAME.part` and renames it.
pub(crate) fn write_folder(folder: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let mut part = folder.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let remove = |path: &Path| {
        if path.exists() {
            fs::remove_dir_all(path).map_err(|e| TrainError::folder("removing", path, e))
        } else {
            Ok(())
        }
    };
    remove(&part)?;
    fs::create_dir_all(&part).map_err(|e| TrainError::folder("creating", &part, e))?;
    write(&part)?;
    remove(folder)?;
    let renamed = fs::rename(&part, folder);
    renamed.and_then(|()| sync_parent(folder)).map_err(|e| TrainError::folder("writing", folder, e))
}

/// A rename is on the disk only when its folder is.
fn sync_parent(folder: &Path) -> std::io::Result<()> {
    match folder.parent() {
        Some(parent) if cfg!(unix) && !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => Ok(()),
    }
}

/// One tensor of the file.
struct Entry<'a, B: Backend> {
    name: String,
    shape: [usize; 2],
    dtype: Dtype,
    tensor: &'a B::Tensor,
}

fn write_tensors<B: Backend>(file: &Path, model: &Model<B>, optimizer: &OptimizerState<B>) -> Result<()> {
    let backend = model.backend();
    let mut sets = optimizer.moments.named();
    sets.push((WIDE, model.params()));
    let mut entries: Vec<Entry<'_, B>> = Vec::new();
    let specs = model.trained_specs();
    for (prefix, params) in sets {
        for (spec, tensor) in specs.iter().zip(params.iter().skip(params.len() - specs.len())) {
            let dtype = dtype_of(backend, tensor);
            if prefix != WIDE || dtype == Dtype::F64 {
                let (name, shape) = (name(prefix, spec), [spec.shape.rows, spec.shape.cols]);
                entries.push(Entry { name, shape, dtype, tensor });
            }
        }
    }
    let declared: Vec<(&str, Dtype, &[usize])> =
        entries.iter().map(|e| (e.name.as_str(), e.dtype, e.shape.as_slice())).collect();
    let mut writer = TensorWriter::create(file, &declared, &BTreeMap::new())?;
    for entry in &entries {
        writer.write_f64(&entry.name, &backend.download::<f64>(entry.tensor))?;
    }
    Ok(writer.finish()?)
}

/// F32 where that is exact, so that a checkpoint holds every bit of any backend.
fn dtype_of<B: Backend>(backend: &B, tensor: &B::Tensor) -> Dtype {
    let exact = |&x: &f64| f64::from(x as f32) == x;
    if backend.download::<f64>(tensor).iter().all(exact) { Dtype::F32 } else { Dtype::F64 }
}

fn name(prefix: &str, spec: &ParamSpec) -> String {
    format!("{prefix}.{}", spec.name)
}

/// Reads parameters and moments of a checkpoint.
pub(crate) fn read_tensors<B: Backend>(
    checkpoint: &Path,
    model: &mut Model<B>,
    optimizer: &mut OptimizerState<B>,
) -> Result<()> {
    let backend = model.backend().clone();
    let mut stored = match model.lora() {
        Some(_) => model.base()?.with_adapters_of(checkpoint)?,
        None => etymon_model::load(backend.clone(), checkpoint)?,
    };
    let (expected, got) = (describe(model.specs()), describe(stored.specs()));
    if got != expected {
        return Err(TrainError::OtherModel { path: checkpoint.to_owned(), expected, got });
    }
    let specs = model.trained_specs().to_vec();
    let file = TensorFile::open(&checkpoint.join(OPTIMIZER))?;
    let read = |prefix: &str, into: &mut Params<B>| -> Result<()> {
        let frozen = into.len() - specs.len();
        for (spec, tensor) in specs.iter().zip(into.iter_mut().skip(frozen)) {
            let name = name(prefix, spec);
            if prefix != WIDE || file.contains(&name) {
                *tensor = backend.upload(spec.shape, &file.read_f64(&name)?)?;
            }
        }
        Ok(())
    };
    read(WIDE, stored.params_mut())?;
    for (prefix, moments) in optimizer.moments.named_mut() {
        read(prefix, moments)?;
    }
    *model.params_mut() = stored.params().clone();
    Ok(())
}

/// Parameters in one line: equal for equal names and shapes.
fn describe(specs: &[ParamSpec]) -> String {
    let mut hash = Hash::default();
    for spec in specs {
        spec.name.bytes().for_each(|b| hash.add(u64::from(b)));
        hash.add(spec.shape.rows as u64);
        hash.add(spec.shape.cols as u64);
    }
    let n: usize = specs.iter().map(|s| s.shape.len()).sum();
    format!("{} parameters of {n} numbers (names and shapes {hash})", specs.len())
}

/// FNV-1a over numbers, for telling data apart; not against malice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hash(u64);

impl Default for Hash {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hash {
    pub fn add(&mut self, x: u64) {
        for byte in x.to_le_bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}
