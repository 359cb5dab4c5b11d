//! What a command will need, phase by phase.

use etymon_attribution::{Queries, Rank, query_flops, query_row_bytes, score_flops, self_influence_bytes};
use etymon_curvature::{FitMemory, correction_flops, covariance_flops, eigen_flops};
use etymon_model::{LayerSpec, Model};

use crate::args::PassArgs;
use crate::machine::allowed_memory;
use crate::open::{Counted, Work};

/// Program, threads and their stacks.
const PROGRAM: u64 = 16 << 20;
/// Writers of the tables of a score, beside its rows.
const TABLES: u64 = 12 << 20;
/// Directions that an iteration holds at a time, beside those of each query.
const DIRECTIONS: u64 = 4;
/// Directions that the iteration of one query holds: its gradient, x, r, what is searched along and its product, twice on the way.
const DIRECTIONS_OF_QUERY: u64 = 8;
/// What ASTRA holds of a query beside that: what is left of v, and the last correction and its product, twice on the way.
pub const DIRECTIONS_OF_ASTRA: u64 = 5;
/// What a conjugate direction that is held takes: itself, its product, and as measured half of that again in memory that the pools keep.
const VECTORS_OF_DIRECTION: u64 = 3;
/// Most conjugate directions that are held: to make a new one conjugate to as many takes the operations of a product over 800 rows.
const MOST_HELD: u64 = 1000;
/// Most queries that are solved at once: more save little of the forward pass that they share.
const MOST_AT_ONCE: u64 = 16;
/// Share of the memory that their directions may take.
const SHARE_AT_ONCE: u64 = 8;
/// Bytes of a token in a window: the id, its stacked copies, its text.
const TOKEN: u64 = 32;

/// Queries that are solved by products at once.
pub fn solved_at_once(specs: &[LayerSpec], n_queries: usize, pass: &PassArgs) -> usize {
    let of_query = DIRECTIONS_OF_QUERY * weight_bytes(specs);
    let fits = allowed_memory(pass.memory_limit) / SHARE_AT_ONCE / of_query.max(1);
    fits.min(n_queries as u64).clamp(1, MOST_AT_ONCE) as usize
}

/// Conjugate directions that are held between queries, with their products, in the same share of the memory.
pub fn held_directions(specs: &[LayerSpec], pass: &PassArgs) -> usize {
    let fits = allowed_memory(pass.memory_limit) / SHARE_AT_ONCE / (VECTORS_OF_DIRECTION * weight_bytes(specs)).max(1);
    fits.min(MOST_HELD) as usize
}

fn weight_bytes(specs: &[LayerSpec]) -> u64 {
    specs.iter().map(|s| 4 * (s.d_in * s.d_out) as u64).sum()
}

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

/// The most that any phase holds.
pub fn peak(phases: &[Phase]) -> u64 {
    phases.iter().map(|p| p.memory).max().unwrap_or(0)
}

/// The phases of a command that goes through those of each group of layers.
pub fn combine(groups: impl Iterator<Item = Vec<Phase>>) -> Vec<Phase> {
    let add = |sum: Phase, x: Phase| Phase {
        name: sum.name,
        memory: sum.memory.max(x.memory),
        disk: sum.disk + x.disk,
        rows: sum.rows + x.rows,
        model_flops: sum.model_flops + x.model_flops,
        fold_flops: sum.fold_flops + x.fold_flops,
    };
    groups.reduce(|sums, group| sums.into_iter().zip(group).map(|(sum, x)| add(sum, x)).collect()).unwrap_or_default()
}

/// A model with the layers of one group, its packed weights, and the size of its data.
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
        let turned = |s: &LayerSpec| if rotates { 4 * (s.positions * (s.d_in + s.d_out)) as u64 } else { 0 };
        let tap = self.model.layers().iter().map(|s| s.tap_row_bytes() + turned(s)).max().unwrap_or(0);
        let live = self.model.pass_bytes(rows) + tap * rows as u64;
        // Buffers that wait for the next batch.
        live + live / 4
    }

    /// Bytes of `windows` windows of `examples` examples.
    fn windows(&self, windows: u64, examples: u64) -> u64 {
        let held = (windows * examples).min(self.counted.examples);
        held * (TOKEN * self.counted.tokens.max(self.counted.rows) / self.counted.examples.max(1) + 200)
    }

    fn flops(&self, rows: u64, examples: u64) -> f64 {
        self.model.pass_flops(rows, rows / examples.max(1))
    }

    /// The phases of `etymon fit` for one group of layers.
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
                ..phase("eigendecomposition", base + memory.eigen, memory.bases, eigen_flops(specs))
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

    /// The phases of `etymon score` for one group of layers.
    pub fn score(&self, task: &Scoring) -> Vec<Phase> {
        let (specs, c, base) = (self.model.layers(), self.counted, self.base());
        let weights = weight_bytes(specs);
        let factors = task.factors;
        let mapped = if factors { FitMemory::of(specs).bases + weights } else { 0 };
        let loading = PROGRAM + self.model.loading_bytes();
        let queries = task.queries.max(1);
        let longest = Some(task.query_rows.div_ceil(queries) as usize);
        let rows_of = |set: &Set| if set.factors || set.solved.is_some() { None } else { longest };
        let numbers =
            |set: &Set| Queries::<Work>::n_numbers(specs, task.queries as usize, task.rank, rows_of(set)) as u64;
        let kept = 4 * task.sets.iter().map(numbers).sum::<u64>() + task.norms * self_influence_bytes(specs);
        // Norms read the factors when they are made, queries are done with them.
        let base = base + TABLES;
        let norms = if task.norms > 0 { mapped } else { 0 };
        let (held, mapped) = (base + kept + norms, mapped.saturating_sub(norms));
        let mut phases = Vec::new();
        let mut buffers = 0;
        if !task.sets.is_empty() {
            let solved: u64 = task.sets.iter().filter_map(|set| set.solved).sum();
            let rows = self.rows(if solved > 0 { c.rows.max(task.query_rows) } else { task.query_rows });
            buffers = self.pass_bytes(rows, factors) + query_row_bytes(specs);
            // A product is a forward pass, its tangent and a backward pass: about as much as that of 1.5 rows.
            let (own, products) = (task.sets.len() as u64 * task.query_rows, solved * 3 / 2);
            // Gradients of all queries, and the directions of an iteration.
            let at_once = solved_at_once(specs, task.queries as usize, self.pass) as u64;
            let more = task.sets.iter().map(|set| set.more).max().unwrap_or(0);
            let held_at_once = DIRECTIONS + (DIRECTIONS_OF_QUERY + more) * at_once;
            let conjugate = task.sets.iter().map(|set| set.held).max().unwrap_or(0);
            let directions =
                if solved > 0 { (queries + held_at_once + VECTORS_OF_DIRECTION * conjugate) * weights } else { 0 };
            let inverse = if task.sets.iter().any(|set| set.preconditioned) { mapped } else { 0 };
            phases.push(Phase {
                name: "queries",
                memory: (held + mapped + inverse + buffers + directions).max(loading),
                disk: 0,
                rows: own + products,
                model_flops: self.flops(own, task.sets.len() as u64 * queries)
                    + self.model.pass_flops(products, c.rows / c.examples.max(1)),
                fold_flops: task.sets.len() as f64 * query_flops(specs, task.query_rows, queries),
            });
        }
        let rows = self.rows(c.rows);
        let pass = self.pass_bytes(rows, task.norms > 0) + task.batch_bytes(rows as u64);
        let windows = self.windows(16, (rows as u64 * c.examples / c.rows.max(1)).max(1));
        let products = |set: &Set| score_flops(specs, (c.rows, c.examples), queries, task.rank, rows_of(set));
        let squares = task.norms as f64 * correction_flops(specs, c.rows, c.examples);
        phases.push(Phase {
            name: "scores",
            memory: (held + windows + pass.max(buffers)).max(loading),
            disk: task.disk,
            rows: c.rows,
            model_flops: self.flops(c.rows, c.examples),
            fold_flops: task.sets.iter().map(products).sum::<f64>() + squares,
        });
        phases
    }
}

/// Queries that one method prepares.
#[derive(Clone, Copy, Debug)]
pub struct Set {
    /// With factors.
    pub factors: bool,
    /// Rows that products with the curvature go over for all queries, where they are solved by such.
    pub solved: Option<u64>,
    /// Whether a copy of the factors preconditions these products.
    pub preconditioned: bool,
    /// Conjugate directions that are held.
    pub held: u64,
    /// Directions that the iteration of a query holds beside those of every method.
    pub more: u64,
}

/// What is scored.
#[derive(Clone, Debug)]
pub struct Scoring {
    /// Queries.
    pub queries: u64,
    /// Their rows.
    pub query_rows: u64,
    /// How they are kept.
    pub rank: Rank,
    /// With factors.
    pub factors: bool,
    /// The methods' queries.
    pub sets: Vec<Set>,
    /// Norms of the examples' own gradients.
    pub norms: u64,
    /// Layers of which scores are kept, of all groups.
    pub layers: u64,
    /// Scores per token of all rows.
    pub tokens: bool,
    /// Bytes of the tables.
    pub disk: u64,
}

impl Scoring {
    /// Bytes of a batch's scores of `rows` rows.
    fn batch_bytes(&self, rows: u64) -> u64 {
        self.sets.len() as u64 * self.queries * rows * (if self.tokens { 16 } else { 0 } + 8 * self.layers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_need_the_memory_of_the_largest_and_the_work_of_all() {
        let phase = |name, memory, rows| Phase { name, memory, disk: 1, rows, model_flops: 2.0, fold_flops: 3.0 };
        let sum =
            combine([vec![phase("a", 5, 7), phase("b", 1, 0)], vec![phase("a", 4, 7), phase("b", 2, 0)]].into_iter());
        let expected = |name, memory, rows| Phase { name, memory, disk: 2, rows, model_flops: 4.0, fold_flops: 6.0 };
        assert_eq!(sum, [expected("a", 5, 14), expected("b", 2, 0)]);
        assert_eq!(peak(&sum), 5);
    }
}
