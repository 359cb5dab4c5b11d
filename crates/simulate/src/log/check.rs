//! Whether the rows of a run are a run.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use etymon_store::{LossRow, StepRow};

use super::{Checked, RunRows};
use crate::{Result, SimulateError};

pub(super) fn check(path: &Path, name: String, rows: RunRows) -> Result<Checked> {
    let missing = |what| Err(SimulateError::Missing { path: path.to_owned(), run: name.clone(), what });
    if rows.steps.is_empty() {
        return missing("steps");
    }
    if rows.losses.is_empty() {
        return missing("losses");
    }
    check_steps(path, &name, &rows.steps)?;
    let (query_ids, measured, losses) = table(path, &name, &rows.losses, rows.steps.len())?;
    let learning_rates = rows.steps.iter().map(|row| row.learning_rate).collect();
    let batches = rows.steps.into_iter().map(|row| row.train_ids).collect();
    Ok(Checked { name, path: path.to_owned(), batches, learning_rates, measured, query_ids, losses })
}

fn check_steps(path: &Path, run: &str, steps: &[StepRow]) -> Result<()> {
    for (expected, row) in (0u64..).zip(steps) {
        if row.step != expected {
            let (path, run) = (path.to_owned(), run.to_owned());
            return Err(SimulateError::StepOrder { path, run, after: expected as i64 - 1, step: row.step });
        }
        if !row.learning_rate.is_finite() {
            return Err(not_finite(path, run, row.step, "the learning rate".to_owned(), row.learning_rate));
        }
    }
    Ok(())
}

fn not_finite(path: &Path, run: &str, step: u64, what: String, value: f64) -> SimulateError {
    SimulateError::NotFinite { path: path.to_owned(), run: run.to_owned(), step, what, value }
}

/// The queries in the order of their first rows, the steps that were measured, and the losses `[measured, Q]`.
fn table(path: &Path, run: &str, rows: &[LossRow], n_steps: usize) -> Result<(Vec<String>, Vec<u64>, Vec<f64>)> {
    let mut seen = BTreeSet::new();
    let query_ids: Vec<String> =
        rows.iter().filter(|row| seen.insert(&row.query_id)).map(|row| row.query_id.clone()).collect();
    let mut losses: BTreeMap<u64, BTreeMap<&str, f64>> = BTreeMap::new();
    for row in rows {
        let (at, run, query) = (path.to_owned(), run.to_owned(), row.query_id.clone());
        if !row.loss.is_finite() {
            return Err(not_finite(path, &run, row.step, format!("the loss of query `{query}`"), row.loss));
        }
        if row.step > n_steps as u64 {
            return Err(SimulateError::LossAfterEnd { path: at, run, query, step: row.step, n_steps });
        }
        if losses.entry(row.step).or_default().insert(&row.query_id, row.loss).is_some() {
            return Err(SimulateError::DuplicateLoss { path: at, run, query, step: row.step });
        }
    }
    losses.entry(0).or_default();
    let mut values = Vec::with_capacity(losses.len() * query_ids.len());
    for (&step, of_query) in &losses {
        for id in &query_ids {
            let (path, run, query) = (path.to_owned(), run.to_owned(), id.clone());
            match of_query.get(id.as_str()) {
                Some(&loss) => values.push(loss),
                None if step == 0 => return Err(SimulateError::NoFirstLoss { path, run, query }),
                None => return Err(SimulateError::MissingLoss { path, run, query, step }),
            }
        }
    }
    Ok((query_ids, losses.into_keys().collect(), values))
}
