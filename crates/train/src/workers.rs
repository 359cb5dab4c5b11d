//! How many runs train at the same time, and their threads.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use etymon_data::{Content, Example};
use etymon_model::Model;
use etymon_tensor::Backend;
use rayon::{ThreadPoolBuildError, ThreadPoolBuilder};

use crate::plan::Plan;
use crate::{Result, TrainError};

/// Runs at once, and threads of each. Does not change any result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Workers {
    /// Runs that train at the same time, ≥ 1.
    pub runs: usize,
    /// Threads of each, ≥ 1.
    pub threads: usize,
}

impl Workers {
    /// As many runs at once as there are threads (a small model does not train faster on several), but no more than
    /// memory holds; threads that are left go to the runs.
    ///
    /// # Errors
    /// [`TrainError::Memory`] if one does not fit into `allowed` bytes.
    pub fn choose(threads: usize, bytes_per_run: u64, allowed: u64) -> Result<Self> {
        let fit = (allowed / bytes_per_run.max(1)) as usize;
        if fit == 0 {
            return Err(TrainError::Memory { needed: bytes_per_run, allowed });
        }
        let runs = threads.min(fit).max(1);
        Ok(Self { runs, threads: (threads / runs).max(1) })
    }

    /// `[n]` What `work` returns for 0..n, computed side by side, each worker in a thread pool of its own. After a failure
    /// nothing more is begun, and what is under way ends.
    ///
    /// # Errors
    /// The first failure.
    pub fn run<T, E>(
        self,
        n: usize,
        work: impl Fn(usize) -> std::result::Result<T, E> + Sync,
    ) -> std::result::Result<Vec<T>, E>
    where
        T: Send,
        E: Send + From<ThreadPoolBuildError>,
    {
        let done: Vec<Mutex<Option<T>>> = (0..n).map(|_| Mutex::new(None)).collect();
        let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
        let failure: Mutex<Option<E>> = Mutex::new(None);
        let worker = || -> std::result::Result<(), E> {
            let pool = ThreadPoolBuilder::new().num_threads(self.threads.max(1)).build()?;
            while !failed.load(Ordering::Relaxed) {
                let i = next.fetch_add(1, Ordering::Relaxed);
                let Some(slot) = done.get(i) else { break };
                *lock(slot) = Some(pool.install(|| work(i))?);
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            for _ in 0..self.runs.clamp(1, n.max(1)) {
                scope.spawn(|| {
                    if let Err(error) = worker() {
                        failed.store(true, Ordering::Relaxed);
                        lock(&failure).get_or_insert(error);
                    }
                });
            }
        });
        if let Some(error) = lock(&failure).take() {
            return Err(error);
        }
        Ok(done.iter().filter_map(|slot| lock(slot).take()).collect())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bytes of one run, about: parameters, their gradients, up to two moments, packed weights, a pass over the rows of a
/// micro-batch or of watched examples, and its copy of the examples.
pub fn run_bytes<B: Backend>(model: &Model<B>, train: &[Example], watched: &[Example], plan: &Plan) -> u64 {
    let longest = train.iter().map(Example::n_rows).max().unwrap_or(1);
    let seen = watched.iter().map(Example::n_rows).sum();
    let rows = plan.micro_batch_rows.min(plan.batch_size.saturating_mul(longest).max(seen)).max(longest);
    let held = |e: &Example| match &e.content {
        Content::Tokens { ids, .. } => 4 * ids.len() as u64,
        Content::Features { values, .. } => 4 * values.len() as u64,
    };
    let data: u64 =
        train.iter().chain(watched).map(|e| held(e) + size_of::<Example>() as u64 + e.id.len() as u64).sum();
    model.weight_bytes(4) + 4 * 4 * model.n_params() as u64 + model.pass_bytes(rows) + data
}
