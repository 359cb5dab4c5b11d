//! A whole job: read, train or resume, write.

use std::path::Path;

use etymon_store::{Opened, Overwrite, RunFolder, RunSpec};
use etymon_tensor::Backend;
use serde_json::json;

use crate::Result;
use crate::checkpoint::latest_checkpoint;
use crate::finetune::Link;
use crate::job::Job;
use crate::observer::Observer;
use crate::output::Output;
use crate::trainer::{End, Trainer};

/// What became of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The model is trained.
    Finished,
    /// The observer stopped it; the same job again goes on.
    Stopped,
    /// It was trained before.
    AlreadyComplete,
}

/// Trains as a job says. In a folder where the same job was interrupted it goes on from the last checkpoint.
///
/// # Errors
/// Inputs that cannot be read or do not fit together, a folder with another run, divergence, a full disk.
pub fn train<B: Backend>(backend: B, job: &Job, overwrite: Overwrite, observer: &mut dyn Observer) -> Result<Outcome> {
    // The inputs first: an error in them leaves no folder behind.
    let mut spec = job.spec()?;
    let merge = job.config.lora.as_ref().is_some_and(|lora| lora.merge);
    let loaded = job.load(backend)?;
    if let Some(link) = Link::new(&loaded.plan, &loaded.train) {
        spec.config["stage"] = json!(link);
    }
    let trainer = Trainer::new(loaded.model, loaded.train, loaded.watched, loaded.plan)?;
    let output = |run| Output::new(run, &job.run, loaded.tokenizer_json.clone()).with_merged(merge);
    train_in(&job.out, spec, overwrite, trainer, output, observer)
}

/// Trains in a run folder. Where the same run was interrupted it goes on from the last checkpoint, or starts anew.
pub(crate) fn train_in<B: Backend>(
    folder: &Path,
    spec: RunSpec,
    overwrite: Overwrite,
    mut trainer: Trainer<B>,
    output: impl FnOnce(RunFolder) -> Output,
    observer: &mut dyn Observer,
) -> Result<Outcome> {
    let run = match RunFolder::open_or_create(folder, spec, overwrite)? {
        Opened::AlreadyComplete(_) => return Ok(Outcome::AlreadyComplete),
        Opened::Created(run) => run,
        Opened::Resumed(run) => {
            if let Some(checkpoint) = latest_checkpoint(run.path())? {
                trainer.resume(&checkpoint)?;
            }
            run
        }
    };
    Ok(trainer.with_output(output(run)).run(observer)?.into())
}

impl From<End> for Outcome {
    fn from(end: End) -> Self {
        match end {
            End::Finished => Self::Finished,
            End::Stopped => Self::Stopped,
        }
    }
}
