//! Logs of other trainers: a file of steps and a file of losses, as jsonl, csv or parquet.

use std::path::Path;

use etymon_data::{TableRow, read_table};
use etymon_store::{LossRow, StepRow};

use crate::Result;

/// Rows, each with its line.
pub(super) type Numbered<R> = Vec<(u64, R)>;

/// The steps of a file, each with its line, without the train loss, which nothing here needs; `run` is the name of the run where there is no column `run`.
pub(super) fn steps(path: &Path, run: &str) -> Result<Numbered<StepRow>> {
    read(path, |row| {
        let (run, step, learning_rate) = (name(row, run)?, row.count("step")?, row.number("learning_rate")?);
        Ok(StepRow { run, step, learning_rate, train_ids: row.ids("train_ids")?, train_loss: f64::NAN })
    })
}

/// The losses of a file, each with its line.
pub(super) fn losses(path: &Path, run: &str) -> Result<Numbered<LossRow>> {
    read(path, |row| {
        let (run, step, query_id) = (name(row, run)?, row.count("step")?, row.id("query_id")?);
        Ok(LossRow { run, step, query_id, loss: row.number("loss")? })
    })
}

fn name(row: &TableRow, run: &str) -> Result<String> {
    if row.has("run") { Ok(row.id("run")?) } else { Ok(run.to_owned()) }
}

fn read<R>(path: &Path, read: impl Fn(&TableRow) -> Result<R>) -> Result<Numbered<R>> {
    let one = |row: TableRow| Ok((row.place.line, read(&row)?));
    read_table(path)?.map(|row| one(row?)).collect()
}
