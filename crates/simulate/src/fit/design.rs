//! Recorded runs as a regression: a row per measured interval.

use crate::kind::Kind;
use crate::recorded::{Recorded, Run};
use crate::roll_out::Dynamics;

/// The rows: which train examples an interval contained, how often (in the paced kind: how often times η_t / η̄, added up). The same for all queries.
#[derive(Clone, Debug)]
pub(crate) struct Design {
    /// n.
    pub n_examples: usize,
    /// How effects become losses; γ is that of the targets.
    pub dynamics: Dynamics,
    /// `[R + 1]` Where the entries of a row start.
    starts: Vec<usize>,
    /// (train example, times).
    entries: Vec<(u32, f64)>,
}

/// The rows, and of each query the loss before and its change.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    pub kind: Kind,
    pub design: Design,
    /// `[Q][R]` L_{t−1}.
    pub levels: Vec<Vec<f64>>,
    /// `[Q][R]` L_t − L_{t−1} − γ (L_{t−1} − L_{t−2}), where the last is 0 in the first interval of a run.
    pub changes: Vec<Vec<f64>>,
}

impl Design {
    fn new(recorded: &Recorded, kind: Kind, memory: f64) -> Self {
        let n_examples = recorded.train_ids.len();
        let mean_rate = if kind.is_paced() { mean_rate(recorded) } else { None };
        let dynamics = Dynamics { every: every(recorded), mean_rate, memory };
        let mut design = Self { n_examples, dynamics, starts: vec![0], entries: Vec::new() };
        let mut times = vec![0.0; n_examples];
        for run in &recorded.runs {
            for (from, to) in intervals(run) {
                let mut examples: Vec<usize> = run.curriculum.batches[from..to].concat();
                for t in from..to {
                    let pace = design.dynamics.pace(run.curriculum.learning_rates[t]);
                    run.curriculum.batches[t].iter().for_each(|&i| times[i] += pace);
                }
                examples.sort_unstable();
                examples.dedup();
                design.entries.extend(examples.iter().map(|&i| (i as u32, times[i])));
                examples.iter().for_each(|&i| times[i] = 0.0);
                design.starts.push(design.entries.len());
            }
        }
        design
    }

    /// R.
    pub fn n_rows(&self) -> usize {
        self.starts.len() - 1
    }

    /// Entries of all rows.
    pub fn n_entries(&self) -> usize {
        self.entries.len()
    }

    /// The train examples of a row, ascending, and how often it has them.
    pub fn row(&self, row: usize) -> impl Iterator<Item = (usize, f64)> + Clone + '_ {
        self.entries[self.starts[row]..self.starts[row + 1]].iter().map(|&(i, times)| (i as usize, times))
    }

    /// Mean over the train examples of Σ times².
    pub fn mean_square(&self) -> f64 {
        self.entries.iter().map(|(_, times)| times * times).sum::<f64>() / self.n_examples.max(1) as f64
    }
}

impl Problem {
    /// The regression of a kind with memory γ.
    pub fn new(recorded: &Recorded, kind: Kind, memory: f64) -> Self {
        let n_queries = recorded.query_ids.len();
        let (mut levels, mut changes) = (vec![Vec::new(); n_queries], vec![Vec::new(); n_queries]);
        for run in &recorded.runs {
            let rows: Vec<&[f64]> = run.losses.chunks_exact(n_queries.max(1)).collect();
            let mut last = vec![0.0; n_queries];
            for pair in rows.windows(2) {
                for (q, (before, after)) in pair[0].iter().zip(pair[1]).enumerate() {
                    levels[q].push(*before);
                    changes[q].push(after - before - memory * last[q]);
                    last[q] = after - before;
                }
            }
        }
        Self { kind, design: Design::new(recorded, kind, memory), levels, changes }
    }
}

/// The steps between two measurements.
fn intervals(run: &Run) -> impl Iterator<Item = (usize, usize)> + '_ {
    run.measured.windows(2).map(|pair| (pair[0] as usize, pair[1] as usize))
}

/// η̄ over all steps; none where it is 0.
fn mean_rate(recorded: &Recorded) -> Option<f64> {
    let rates = || recorded.runs.iter().flat_map(|run| &run.curriculum.learning_rates);
    let mean = rates().sum::<f64>() / rates().count() as f64;
    (mean.is_finite() && mean != 0.0).then_some(mean)
}

/// The most frequent number of steps of an interval, the smaller one of equally frequent ones; 1 without intervals.
fn every(recorded: &Recorded) -> usize {
    let mut frequency = std::collections::BTreeMap::new();
    for (from, to) in recorded.runs.iter().flat_map(intervals) {
        *frequency.entry(to - from).or_insert(0usize) += 1;
    }
    let most = frequency.values().max().copied().unwrap_or(0);
    frequency.into_iter().find(|&(_, count)| count == most).map_or(1, |(steps, _)| steps.max(1))
}
