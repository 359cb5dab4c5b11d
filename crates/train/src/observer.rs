//! What a run tells while it goes on.

use std::path::Path;

use etymon_data::ExampleIndex;

/// A step that was made.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress<'a> {
    /// The step, from 0.
    pub step: u64,
    /// Steps of the whole run.
    pub n_steps: u64,
    /// Times through the train set that were completed before the step.
    pub epoch: u64,
    /// The examples of the batch; none if all of them are excluded.
    pub batch: &'a [ExampleIndex],
    /// Loss of the batch before the step, by the plan's reduction; NaN for a batch without examples.
    pub loss: f64,
    /// Learning rate.
    pub learning_rate: f64,
    /// Norm of the gradient before clipping.
    pub gradient_norm: f64,
    /// Rows (tokens) that went through the model.
    pub n_rows: usize,
    /// Rows per second of this step.
    pub rows_per_second: f64,
}

/// Receives the progress of a run: to draw bars, to stop it, to keep what happened in memory. `()` ignores it.
pub trait Observer {
    /// The run starts at a step (not 0 when it is resumed).
    fn started(&mut self, step: u64, n_steps: u64) {
        let _ = (step, n_steps);
    }

    /// The losses (sums over predicted positions) of the watched examples before `step`; after the last step `step` is
    /// the number of steps.
    fn watched(&mut self, step: u64, losses: &[f64]) {
        let _ = (step, losses);
    }

    /// A step was made.
    fn step(&mut self, progress: &Progress<'_>) {
        let _ = progress;
    }

    /// A checkpoint is on the disk.
    fn checkpoint(&mut self, folder: &Path) {
        let _ = folder;
    }

    /// Asked before each step: whether to stop here. A run with an output then leaves a checkpoint to go on from.
    fn should_stop(&mut self) -> bool {
        false
    }
}

impl Observer for () {}
