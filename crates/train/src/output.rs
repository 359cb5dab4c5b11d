//! The run folder of a training: `log/`, `checkpoint-000123/`, `model/`, `merged/`, `manifest.json`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use etymon_model::Model;
use etymon_store::{RunFolder, TrainingLog};
use etymon_tensor::Backend;
use serde_json::json;

use crate::Result;
use crate::checkpoint::{self, State};
use crate::optimizer::OptimizerState;

/// Where a run leaves its files.
#[derive(Debug)]
pub struct Output {
    run: RunFolder,
    log: TrainingLog,
    tokenizer_json: Option<String>,
    model: bool,
    merge: bool,
}

impl Output {
    /// Files go to `run`; `name` names the run in the log; `tokenizer_json` goes with every model.
    pub fn new(run: RunFolder, name: &str, tokenizer_json: Option<String>) -> Self {
        let log = TrainingLog::open(&run.file("log"), name);
        Self { run, log, tokenizer_json, model: true, merge: false }
    }

    /// Whether the final model is written (it is, unless this says no); without it, not merged either.
    #[must_use]
    pub fn with_model(self, model: bool) -> Self {
        Self { model, ..self }
    }

    /// The final model is also written to `merged/`, with its adapters added to the weights.
    #[must_use]
    pub fn with_merged(self, merge: bool) -> Self {
        Self { merge, ..self }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        self.run.path()
    }

    /// Drops what an interrupted run logged at `step` and later.
    pub(crate) fn start(&mut self, step: u64) -> Result<()> {
        Ok(self.log.truncate_from(step)?)
    }

    pub(crate) fn step(&mut self, step: u64, learning_rate: f64, ids: &[String], loss: f64) -> Result<()> {
        Ok(self.log.step(step, learning_rate, ids, loss)?)
    }

    pub(crate) fn losses(&mut self, step: u64, ids: &[String], losses: &[f64]) -> Result<()> {
        Ok(self.log.losses(step, ids, losses)?)
    }

    pub(crate) fn checkpoint<B: Backend>(
        &mut self,
        model: &Model<B>,
        optimizer: &OptimizerState<B>,
        state: &State,
    ) -> Result<PathBuf> {
        // The log first: a checkpoint without it could not be gone on from.
        self.log.flush()?;
        let folder = checkpoint::write(self.run.path(), model, self.tokenizer_json.as_deref(), optimizer, state)?;
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.run.update_progress(json!({ "step": state.step, "n_steps": state.n_steps, "checkpoint": name }))?;
        Ok(folder)
    }

    /// Writes the final model, if it is wanted, and closes the run.
    pub(crate) fn complete<B: Backend>(mut self, model: &Model<B>, timings: Timings) -> Result<()> {
        self.log.flush()?;
        let tokenizer = self.tokenizer_json.as_deref();
        if self.model {
            checkpoint::write_folder(&self.run.file("model"), |part| Ok(etymon_model::save(model, part, tokenizer)?))?;
        }
        if self.model && self.merge {
            let merged = model.merged()?;
            checkpoint::write_folder(&self.run.file("merged"), |part| {
                Ok(etymon_model::save(&merged, part, tokenizer)?)
            })?;
        }
        self.run.complete(timings.0)?;
        Ok(())
    }
}

/// Seconds per phase.
#[derive(Debug, Default)]
pub(crate) struct Timings(BTreeMap<String, f64>);

impl Timings {
    pub fn insert(&mut self, phase: &str, time: Duration) {
        *self.0.entry(phase.to_owned()).or_default() += time.as_secs_f64();
    }
}
