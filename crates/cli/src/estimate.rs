//! What a command will need, phase by phase, and the batch size that fits.

use etymon_attribution::{Queries, Rank, query_flops, query_row_bytes, score_flops, self_influence_bytes};
use etymon_curvature::{FitMemory, correction_flops, covariance_flops, eigen_flops};
use etymon_model::{LayerSpec, Model};

use crate::args::PassArgs;
use crate::error::{CliError, Result};
use crate::machine::{Bytes, free_memory};
use crate::open::{Counted, Work};

/// Program, threads and their stacks.
const PROGRAM: u64 = 12 << 20;
/// Rows per batch, from what is as fast as more down to what needs least.
const CHOICES: [usize; 8] = [1024, 512, 256, 128, 64, 32, 16, 1];
/// Bytes of a token in a window: the id, its stacked copies, its text.
const TOKEN: u64 = 32;

/// One phase of a command.
#[derive(Clone, Debug, PartialEq)]
pub struct Phase {
    /// Its name.
    pub name: &'static str,
    /// Bytes of memory at its peak.
    pub memory: u64,
    /// Bytes on disk that it writes.
    pub disk: u64,
    /// Rows that go through the model.
    pub rows: u64,
    /// Operations of the model.
    pub model_flops: f64,
    /// Operations of what is summed, rotated or contracted.
    pub fold_flops: f64,
}

/// The batch size: the one that is asked for, or the largest of a few that keeps `peak` below the limit.
///
/// # Errors
/// Even the smallest batch does not fit.
pub fn batch_rows(args: &PassArgs, longest: u64, peak: impl Fn(usize) -> u64) -> Result<usize> {
    let allowed = match args.memory_limit {
        Some(Bytes(limit)) => limit,
        None => free_memory().map_or(u64::MAX, |free| free / 5 * 4),
    };
    let longest = longest.max(1) as usize;
    let choices = args.batch_rows.map_or_else(|| CHOICES.to_vec(), |rows| vec![rows]);
    let mut needed = u64::MAX;
    for choice in choices {
        needed = peak(choice.max(longest));
        if needed <= allowed {
            return Ok(choice.max(if args.batch_rows.is_some() { 0 } else { longest }));
        }
    }
    Err(CliError::Memory { needed: Bytes(needed), allowed: Bytes(allowed) })
}

/// The most that any phase holds.
pub fn peak(phases: &[Phase]) -> u64 {
    phases.iter().map(|p| p.memory).max().unwrap_or(0)
}

/// A model, its packed weights, and the size of its data.
pub struct Load<'a> {
    /// The model.
    pub model: &'a Model<Work>,
    /// Its data.
    pub counted: &'a Counted,
    /// How it is run.
    pub pass: &'a PassArgs,
    /// Rows of a batch.
    pub batch_rows: usize,
}

impl Load<'_> {
    fn base(&self) -> u64 {
        PROGRAM + self.model.weight_bytes(self.pass.dtype.precision().kept_panel_bytes())
    }

    /// Rows of the largest batch.
    fn rows(&self, of: u64) -> usize {
        self.batch_rows.max(self.counted.longest as usize).min(of as usize)
    }

    /// Bytes of the pass itself; a tap that rotates holds ā and Ds twice.
    fn pass_bytes(&self, rows: usize, rotates: bool) -> u64 {
        let turned = |s: &LayerSpec| if rotates { 4 * (s.d_in + s.d_out) as u64 } else { 0 };
        let tap = self.model.layers().iter().map(|s| s.tap_row_bytes() + turned(s)).max().unwrap_or(0);
        self.model.pass_bytes(rows) + tap * rows as u64
    }

    /// Bytes of `windows` windows of `examples` examples.
    fn windows(&self, windows: u64, examples: u64) -> u64 {
        let held = (windows * examples).min(self.counted.examples);
        held * (TOKEN * self.counted.tokens.max(self.counted.rows) / self.counted.examples.max(1) + 200)
    }

    fn flops(&self, rows: u64, examples: u64) -> f64 {
        self.model.pass_flops(rows, rows / examples.max(1))
    }

    /// The phases of `etymon fit`.
    pub fn fit(&self, correction: bool, shard: u64) -> Vec<Phase> {
        let (specs, c) = (self.model.layers(), self.counted);
        let (rows, memory, base) = (self.rows(c.rows), FitMemory::of(specs), self.base());
        let windows = self.windows(3, shard);
        let pass = self.pass_bytes(rows, false);
        let model_flops = self.flops(c.rows, c.examples);
        let phase =
            |name, memory, disk, fold_flops| Phase { name, memory, disk, rows: c.rows, model_flops, fold_flops };
        let covariance = (base + pass + windows + memory.covariance).max(PROGRAM + self.model.loading_bytes());
        let mut phases = vec![
            phase("covariance", covariance, 2 * memory.bases, covariance_flops(specs, c.rows)),
            Phase {
                rows: 0,
                model_flops: 0.0,
                // The buffers of the pass stay with the program.
                ..phase("eigendecomposition", base + pass + memory.eigen, memory.bases, eigen_flops(specs))
            },
        ];
        if correction {
            let pass = self.pass_bytes(rows, true);
            // The bases are mapped while they are read; the sums come after.
            let held = base + pass + memory.bases + memory.bases.max(memory.correction + windows);
            let disk = memory.correction + memory.correction / 2;
            phases.push(phase("correction", held, disk, correction_flops(specs, c.rows, c.examples)));
        }
        phases
    }

    /// The phases of `etymon score`.
    pub fn score(&self, task: &Scoring) -> Vec<Phase> {
        let (specs, c, base) = (self.model.layers(), self.counted, self.base());
        let weights: u64 = specs.iter().map(|s| 4 * (s.d_in * s.d_out) as u64).sum();
        let mapped = if task.factors { FitMemory::of(specs).bases + weights } else { 0 };
        let loading = PROGRAM + self.model.loading_bytes();
        let queries = task.queries.max(1);
        let query_rows = (!task.factors).then_some(task.query_rows.div_ceil(queries) as usize);
        let kept = match task.self_influence {
            true => self_influence_bytes(specs),
            false => 4 * Queries::<Work>::n_numbers(specs, task.queries as usize, task.rank, query_rows) as u64,
        };
        let held = base + mapped + kept;
        let mut phases = Vec::new();
        let mut buffers = 0;
        if !task.self_influence {
            buffers = self.pass_bytes(self.rows(task.query_rows), task.factors) + query_row_bytes(specs);
            phases.push(Phase {
                name: "queries",
                memory: (held + buffers).max(loading),
                disk: 0,
                rows: task.query_rows,
                model_flops: self.flops(task.query_rows, queries),
                fold_flops: query_flops(specs, task.query_rows, queries),
            });
        }
        let rows = self.rows(c.rows);
        let pass = self.pass_bytes(rows, task.self_influence) + task.batch_bytes(rows as u64, specs.len() as u64);
        let windows = self.windows(16, (rows as u64 * c.examples / c.rows.max(1)).max(1));
        phases.push(Phase {
            name: "scores",
            memory: (held + windows + pass.max(buffers)).max(loading),
            disk: task.disk,
            rows: c.rows,
            model_flops: self.flops(c.rows, c.examples),
            fold_flops: match task.self_influence {
                true => correction_flops(specs, c.rows, c.examples),
                false => score_flops(specs, (c.rows, c.examples), queries, task.rank, query_rows),
            },
        });
        phases
    }
}

/// What is scored.
#[derive(Clone, Copy, Debug)]
pub struct Scoring {
    /// Queries.
    pub queries: u64,
    /// Their rows.
    pub query_rows: u64,
    /// How they are kept.
    pub rank: Rank,
    /// Every example on itself.
    pub self_influence: bool,
    /// With factors.
    pub factors: bool,
    /// Scores per layer.
    pub layers: bool,
    /// Scores per token of all rows.
    pub tokens: bool,
    /// Bytes of the tables.
    pub disk: u64,
}

impl Scoring {
    /// Bytes of a batch's scores of `rows` rows.
    fn batch_bytes(&self, rows: u64, n_layers: u64) -> u64 {
        let layers = if self.layers { 8 * n_layers } else { 0 };
        self.queries * rows * (if self.tokens { 16 } else { 0 } + layers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Dtype;

    #[test]
    fn the_batch_that_is_picked_falls_with_the_limit_and_never_below_the_longest_sequence() {
        let pick = |limit: u64, longest| {
            let args = PassArgs { batch_rows: None, memory_limit: Some(Bytes(limit)), dtype: Dtype::F32 };
            batch_rows(&args, longest, |rows| 100 + rows as u64).ok()
        };
        assert_eq!(pick(1 << 20, 8), Some(1024));
        assert_eq!(pick(700, 8), Some(512));
        assert_eq!(pick(200, 8), Some(64));
        assert_eq!(pick(200, 90), Some(90));
        assert_eq!(pick(200, 101), None);
        assert_eq!(pick(50, 8), None);
    }
}
