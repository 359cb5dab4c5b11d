//! Training logs, of etymon or of another trainer, as runs.

mod check;
mod find;
mod foreign;
mod rows;

pub use find::logs as find_logs;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::recorded::{Recorded, Run};
use crate::{Result, SimulateError};
use rows::Log;

/// A run with ids.
struct Checked {
    name: String,
    path: PathBuf,
    batches: Vec<Vec<String>>,
    learning_rates: Vec<f64>,
    measured: Vec<u64>,
    query_ids: Vec<String>,
    losses: Vec<f64>,
}

pub(crate) fn read(paths: &[PathBuf]) -> Result<Recorded> {
    let mut runs = Vec::new();
    for folder in find_logs(paths)? {
        let (log, of_folder) = Log::read(&folder)?;
        for (name, rows) in of_folder {
            runs.push(check::check(&log, name, rows)?);
        }
    }
    join(runs)
}

/// Ids become positions, and the losses of every run have the order of the first one's queries.
fn join(runs: Vec<Checked>) -> Result<Recorded> {
    let first = runs.first().ok_or(SimulateError::NoRuns)?;
    let query_ids = first.query_ids.clone();
    let ids: BTreeSet<&String> = runs.iter().flat_map(|run| run.batches.iter().flatten()).collect();
    let train_ids: Vec<String> = ids.into_iter().cloned().collect();
    let position: BTreeMap<&str, usize> = train_ids.iter().enumerate().map(|(i, id)| (id.as_str(), i)).collect();
    let mut names: BTreeMap<&str, &Path> = BTreeMap::new();
    let mut out = Vec::with_capacity(runs.len());
    for run in &runs {
        if let Some(other) = names.insert(&run.name, &run.path) {
            let (run, first, second) = (run.name.clone(), other.to_owned(), run.path.clone());
            return Err(SimulateError::DuplicateRun { run, first, second });
        }
        let place = |batch: &Vec<String>| batch.iter().filter_map(|id| position.get(id.as_str()).copied()).collect();
        let curriculum = crate::Curriculum {
            batches: run.batches.iter().map(place).collect(),
            learning_rates: run.learning_rates.clone(),
        };
        let losses = reorder(run, first)?;
        out.push(Run { name: run.name.clone(), curriculum, measured: run.measured.clone(), losses });
    }
    Ok(Recorded { train_ids, query_ids, runs: out })
}

fn reorder(run: &Checked, first: &Checked) -> Result<Vec<f64>> {
    let missing = |a: &Checked, b: &Checked| {
        let known: BTreeSet<&String> = a.query_ids.iter().collect();
        b.query_ids.iter().find(|q| !known.contains(q)).map(|query| SimulateError::OtherQueries {
            run: a.name.clone(),
            query: query.clone(),
            other: b.name.clone(),
        })
    };
    if let Some(error) = missing(run, first).or_else(|| missing(first, run)) {
        return Err(error);
    }
    let of: BTreeMap<&String, usize> = run.query_ids.iter().enumerate().map(|(i, q)| (q, i)).collect();
    let from: Vec<usize> = first.query_ids.iter().filter_map(|q| of.get(q).copied()).collect();
    let rows = run.losses.chunks_exact(from.len().max(1));
    Ok(rows.flat_map(|row| from.iter().map(|&i| row[i])).collect())
}
