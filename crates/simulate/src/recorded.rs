//! Runs that were recorded: their curricula, and the losses of watched examples on the way.

use std::path::PathBuf;

use crate::Result;
use crate::curriculum::Curriculum;
use crate::log;

/// A run that was done.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// Its name.
    pub name: String,
    /// What it trained on.
    pub curriculum: Curriculum,
    /// `[measured]` The steps before which losses were measured, rising, the first is 0; T is after the last step.
    pub measured: Vec<u64>,
    /// `[measured, Q]` The losses in nats.
    pub losses: Vec<f64>,
}

/// Runs over the same train examples and queries.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    /// `[n]` The train examples that any run contains, sorted.
    pub train_ids: Vec<String>,
    /// `[Q]` The watched examples, in the order of the first run.
    pub query_ids: Vec<String>,
    /// The runs, sorted by path.
    pub runs: Vec<Run>,
}

impl Recorded {
    /// Reads logs. A path is a folder with a training log (`steps-*.parquet`, `losses-*.parquet`), the folder of a run (with
    /// a folder `log`), or a folder of such folders.
    ///
    /// # Errors
    /// Paths without a log; logs that are not as docs/training-log.md has them: the error names file, run, step and id.
    pub fn read(paths: &[PathBuf]) -> Result<Self> {
        log::read(paths)
    }

    /// Those of the runs at `positions`, in this order; positions without a run do not count. The lists of ids stay.
    #[must_use]
    pub fn part(&self, positions: &[usize]) -> Self {
        let runs = positions.iter().filter_map(|&i| self.runs.get(i).cloned()).collect();
        Self { train_ids: self.train_ids.clone(), query_ids: self.query_ids.clone(), runs }
    }

    /// Only some of the queries, those at `positions`, in this order; positions are below Q.
    #[must_use]
    pub fn queries(&self, positions: &[usize]) -> Self {
        let n_queries = self.query_ids.len().max(1);
        let of_run = |run: &Run| {
            let rows = run.losses.chunks_exact(n_queries);
            let losses = rows.flat_map(|row| positions.iter().map(|&q| row[q])).collect();
            Run { losses, ..run.clone() }
        };
        let query_ids = positions.iter().map(|&q| self.query_ids[q].clone()).collect();
        Self { train_ids: self.train_ids.clone(), query_ids, runs: self.runs.iter().map(of_run).collect() }
    }

    /// `[n]` How often the runs contain each train example.
    pub fn counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.train_ids.len()];
        for run in &self.runs {
            run.curriculum.counts(counts.len()).into_iter().zip(&mut counts).for_each(|(more, count)| *count += more);
        }
        counts
    }
}

impl Run {
    /// `[Q]` The losses before the first step.
    pub fn first_losses(&self, n_queries: usize) -> &[f64] {
        self.losses.get(..n_queries).unwrap_or_default()
    }
}
