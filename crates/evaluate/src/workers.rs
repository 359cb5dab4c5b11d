//! How many worlds train at the same time.

use etymon_data::Example;
use etymon_model::Model;
use etymon_tensor::Backend;
use etymon_train::Plan;

use crate::{EvaluateError, Result};

/// Worlds at once, and threads of each. Does not change any result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Workers {
    /// Worlds that train at the same time, ≥ 1.
    pub worlds: usize,
    /// Threads of each, ≥ 1.
    pub threads: usize,
}

impl Workers {
    /// As many worlds at once as there are threads (a small model does not train faster on several), but no more than
    /// memory holds; threads that are left go to the worlds.
    ///
    /// # Errors
    /// [`EvaluateError::Memory`] if one does not fit into `allowed` bytes.
    pub fn choose(threads: usize, bytes_per_world: u64, allowed: u64) -> Result<Self> {
        let fit = (allowed / bytes_per_world.max(1)) as usize;
        if fit == 0 {
            return Err(EvaluateError::Memory { needed: bytes_per_world, allowed });
        }
        let worlds = threads.min(fit).max(1);
        Ok(Self { worlds, threads: (threads / worlds).max(1) })
    }
}

/// Bytes of one world in training: parameters, their gradients, up to two moments, packed weights, a pass over the rows of
/// a micro-batch, and its copy of the train set.
pub(crate) fn world_bytes<B: Backend>(model: &Model<B>, train: &[Example], plan: &Plan) -> u64 {
    let longest = train.iter().map(Example::n_rows).max().unwrap_or(1);
    let rows = plan.micro_batch_rows.min(plan.batch_size.saturating_mul(longest)).max(longest);
    let held = |e: &Example| match &e.content {
        etymon_data::Content::Tokens { ids, .. } => 4 * ids.len() as u64,
        etymon_data::Content::Features { values, .. } => 4 * values.len() as u64,
    };
    let data: u64 = train.iter().map(|e| held(e) + size_of::<Example>() as u64 + e.id.len() as u64).sum();
    model.weight_bytes(4) + 4 * 4 * model.n_params() as u64 + model.pass_bytes(rows) + data
}
