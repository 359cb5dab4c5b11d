//! Whether the rows of a run are a run.

use std::collections::{BTreeMap, BTreeSet};

use etymon_data::Place;
use etymon_store::{LossRow, StepRow};

use super::Checked;
use super::rows::{At, Log, RunRows};
use crate::{Result, SimulateError};

/// The queries in the order of their first rows, the steps that were measured, and the losses `[measured, Q]`.
type Losses = (Vec<String>, Vec<u64>, Vec<f64>);

pub(super) fn check(log: &Log, name: String, rows: RunRows) -> Result<Checked> {
    let path = &log.folder;
    let missing = |what| Err(SimulateError::Missing { path: path.clone(), run: name.clone(), what });
    if rows.steps.is_empty() {
        return missing("steps");
    }
    if rows.losses.is_empty() {
        return missing("losses");
    }
    check_steps(log, &name, &rows.steps)?;
    let (query_ids, measured, losses) = table(log, &name, &rows.losses, rows.steps.len())?;
    let learning_rates = rows.steps.iter().map(|(_, row)| row.learning_rate).collect();
    let batches = rows.steps.into_iter().map(|(_, row)| row.train_ids).collect();
    Ok(Checked { name, path: path.clone(), batches, learning_rates, measured, query_ids, losses })
}

fn check_steps(log: &Log, run: &str, steps: &[(At, StepRow)]) -> Result<()> {
    for (expected, (at, row)) in (0u64..).zip(steps) {
        let place = || log.place(*at);
        if row.step != expected {
            let (place, run) = (place(), run.to_owned());
            return Err(SimulateError::StepOrder { place, run, after: expected as i64 - 1, step: row.step });
        }
        if !row.learning_rate.is_finite() {
            return Err(not_finite(place(), run, row.step, "the learning rate".to_owned(), row.learning_rate));
        }
    }
    Ok(())
}

fn not_finite(place: Place, run: &str, step: u64, what: String, value: f64) -> SimulateError {
    SimulateError::NotFinite { place, run: run.to_owned(), step, what, value }
}

fn table(log: &Log, run: &str, rows: &[(At, LossRow)], n_steps: usize) -> Result<Losses> {
    let mut seen = BTreeSet::new();
    let ids = rows.iter().map(|(_, row)| &row.query_id);
    let query_ids: Vec<String> = ids.filter(|id| seen.insert(*id)).cloned().collect();
    let mut losses: BTreeMap<u64, BTreeMap<&str, f64>> = BTreeMap::new();
    for (at, row) in rows {
        let (place, run, query) = (|| log.place(*at), run.to_owned(), row.query_id.clone());
        if !row.loss.is_finite() {
            return Err(not_finite(place(), &run, row.step, format!("the loss of query `{query}`"), row.loss));
        }
        if row.step > n_steps as u64 {
            return Err(SimulateError::LossAfterEnd { place: place(), run, query, step: row.step, n_steps });
        }
        if losses.entry(row.step).or_default().insert(&row.query_id, row.loss).is_some() {
            return Err(SimulateError::DuplicateLoss { place: place(), run, query, step: row.step });
        }
    }
    losses.entry(0).or_default();
    let mut values = Vec::with_capacity(losses.len() * query_ids.len());
    for (&step, of_query) in &losses {
        for id in &query_ids {
            let (path, run, query) = (log.folder.clone(), run.to_owned(), id.clone());
            match of_query.get(id.as_str()) {
                Some(&loss) => values.push(loss),
                None if step == 0 => return Err(SimulateError::NoFirstLoss { path, run, query }),
                None => return Err(SimulateError::MissingLoss { path, run, query, step }),
            }
        }
    }
    Ok((query_ids, losses.into_keys().collect(), values))
}
