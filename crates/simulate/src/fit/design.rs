//! Recorded runs as a regression: a row per measured interval.

use crate::kind::Kind;
use crate::recorded::{Recorded, Run};
use crate::roll_out::Dynamics;

/// The rows: which train examples an interval contained, how often. The same for all queries.
#[derive(Clone, Debug)]
pub(crate) struct Design {
    /// n; one more where there is a column of what all examples share.
    pub n_columns: usize,
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
    /// `[Q]` What levels and changes were divided by: in the momentum kind the mean level, so that one λ suits queries of small
    /// and of large losses, and A as well as B; else 1.
    pub units: Vec<f64>,
}

impl Design {
    pub fn new(recorded: &Recorded, kind: Kind, memory: f64) -> Self {
        let n_columns = recorded.train_ids.len() + usize::from(kind.has_momentum());
        let dynamics = Dynamics { every: every(recorded), memory, by_rate: kind.by_rate() };
        let mut design = Self { n_columns, dynamics, starts: vec![0], entries: Vec::new() };
        let mut times = vec![0.0; n_columns];
        for run in &recorded.runs {
            for (from, to) in intervals(run) {
                let mut examples: Vec<usize> = run.curriculum.batches[from..to].concat();
                examples.iter().for_each(|&i| times[i] += 1.0);
                let n_times = examples.len() as f64;
                examples.sort_unstable();
                examples.dedup();
                if kind.has_momentum() {
                    examples.push(n_columns - 1);
                    times[n_columns - 1] = n_times;
                }
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
        self.entries.iter().map(|(_, times)| times * times).sum::<f64>() / self.n_columns.max(1) as f64
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
        let mut units = vec![1.0; n_queries];
        if kind.has_momentum() {
            for (q, unit) in units.iter_mut().enumerate() {
                let mean = levels[q].iter().map(|l: &f64| l.abs()).sum::<f64>() / levels[q].len().max(1) as f64;
                *unit = if mean > 0.0 { mean } else { 1.0 };
                levels[q].iter_mut().chain(&mut changes[q]).for_each(|x| *x /= *unit);
            }
        }
        Self { kind, units, design: Design::new(recorded, kind, memory), levels, changes }
    }
}

/// The steps between two measurements.
pub(crate) fn intervals(run: &Run) -> impl Iterator<Item = (usize, usize)> + '_ {
    run.measured.windows(2).map(|pair| (pair[0] as usize, pair[1] as usize))
}

/// The most frequent number of steps of an interval, the smaller one of equally frequent ones; 1 without intervals.
pub(crate) fn every(recorded: &Recorded) -> usize {
    let mut frequency = std::collections::BTreeMap::new();
    for (from, to) in recorded.runs.iter().flat_map(intervals) {
        *frequency.entry(to - from).or_insert(0usize) += 1;
    }
    let most = frequency.values().max().copied().unwrap_or(0);
    frequency.into_iter().find(|&(_, count)| count == most).map_or(1, |(steps, _)| steps.max(1))
}
