//! The log of a training run: `steps-*.parquet` and `losses-*.parquet`.

use std::path::{Path, PathBuf};

use arrow_array::ArrayRef;
use arrow_array::types::{Float64Type, UInt64Type};
use arrow_schema::{DataType, Field};

use super::columns::{Columns, field, list_of, number_column, string_column, string_list_column};
use super::rows::{Row, read_rows, write_rows};
use super::segments::{segment, segments};
use crate::atomic::remove;
use crate::error::{Result, StoreError};

const STEPS: &str = "steps";
const LOSSES: &str = "losses";

/// Rows held in memory before they are written even without a [`TrainingLog::flush`].
const MAX_PENDING: usize = 1 << 18;

/// A step of training.
#[derive(Debug, Clone, PartialEq)]
pub struct StepRow {
    /// The run.
    pub run: String,
    /// The step, from 0.
    pub step: u64,
    /// The learning rate η_t.
    pub learning_rate: f64,
    /// The batch B_t.
    pub train_ids: Vec<String>,
    /// The train loss of the batch before the step.
    pub train_loss: f64,
}

/// The loss of a query before a step of training.
#[derive(Debug, Clone, PartialEq)]
pub struct LossRow {
    /// The run.
    pub run: String,
    /// The step that the loss was measured before; the number of steps for the loss at the end.
    pub step: u64,
    /// The query.
    pub query_id: String,
    /// Its loss.
    pub loss: f64,
}

/// The log of one run, being written. Rows are on the disk after [`flush`](Self::flush): flush before a checkpoint is
/// noted, and when resuming from it drop what came later with [`truncate_from`](Self::truncate_from).
#[derive(Debug)]
pub struct TrainingLog {
    folder: PathBuf,
    run: String,
    steps: Vec<StepRow>,
    losses: Vec<LossRow>,
}

impl TrainingLog {
    /// Opens the log in `folder`, to append rows of `run`; a folder may hold several runs.
    pub fn open(folder: &Path, run: &str) -> Self {
        Self { folder: folder.to_owned(), run: run.to_owned(), steps: Vec::new(), losses: Vec::new() }
    }

    /// Logs a step.
    ///
    /// # Errors
    /// When rows have to be written and the disk refuses.
    pub fn step(&mut self, step: u64, learning_rate: f64, train_ids: &[String], train_loss: f64) -> Result<()> {
        let (run, train_ids) = (self.run.clone(), train_ids.to_vec());
        self.steps.push(StepRow { run, step, learning_rate, train_ids, train_loss });
        self.flush_if_many()
    }

    /// Logs the losses of queries before a step.
    ///
    /// # Errors
    /// When there are not as many losses as queries, or rows have to be written and the disk refuses.
    pub fn losses(&mut self, step: u64, query_ids: &[String], losses: &[f64]) -> Result<()> {
        if query_ids.len() != losses.len() {
            return Err(StoreError::BlockShape {
                path: self.folder.clone(),
                rows: 1,
                queries: query_ids.len(),
                column: "losses",
                got: losses.len(),
            });
        }
        let rows = query_ids.iter().zip(losses);
        let run = &self.run;
        self.losses.extend(rows.map(|(query_id, &loss)| LossRow {
            run: run.clone(),
            step,
            query_id: query_id.clone(),
            loss,
        }));
        self.flush_if_many()
    }

    /// Writes the rows logged since the last flush as new files.
    ///
    /// # Errors
    /// When the disk refuses; the rows are then kept.
    pub fn flush(&mut self) -> Result<()> {
        append(&self.folder, STEPS, &mut self.steps)?;
        append(&self.folder, LOSSES, &mut self.losses)
    }

    /// Drops the rows of this run from `step` on: what a run does that resumes at `step`.
    ///
    /// # Errors
    /// When the log cannot be read or rewritten. Called again, it goes on.
    pub fn truncate_from(&mut self, step: u64) -> Result<()> {
        self.steps.retain(|row| row.step < step);
        self.losses.retain(|row| row.step < step);
        let run = &self.run;
        truncate(&self.folder, STEPS, |row: &StepRow| row.run != *run || row.step < step)?;
        truncate(&self.folder, LOSSES, |row: &LossRow| row.run != *run || row.step < step)
    }

    /// Drops the rows of this run after `step`, which stays.
    ///
    /// # Errors
    /// As [`truncate_from`](Self::truncate_from).
    pub fn truncate_after(&mut self, step: u64) -> Result<()> {
        self.truncate_from(step.saturating_add(1))
    }

    fn flush_if_many(&mut self) -> Result<()> {
        if self.steps.len().max(self.losses.len()) < MAX_PENDING { Ok(()) } else { self.flush() }
    }
}

/// All steps of a log, in the order they were written; none if there is no log.
///
/// # Errors
/// When a file is missing, corrupt, or another table.
pub fn read_steps(folder: &Path) -> Result<Vec<StepRow>> {
    read_segments(folder, STEPS)
}

/// All losses of a log, in the order they were written; none if there is no log.
///
/// # Errors
/// When a file is missing, corrupt, or another table.
pub fn read_losses(folder: &Path) -> Result<Vec<LossRow>> {
    read_segments(folder, LOSSES)
}

/// The steps of a log, file by file.
///
/// # Errors
/// When a file is missing; later, when one is corrupt or another table.
pub fn step_segments(folder: &Path) -> Result<impl Iterator<Item = Result<(PathBuf, Vec<StepRow>)>> + use<>> {
    by_file(folder, STEPS)
}

/// The losses of a log, file by file: for logs larger than memory.
///
/// # Errors
/// When a file is missing; later, when one is corrupt or another table.
pub fn loss_segments(folder: &Path) -> Result<impl Iterator<Item = Result<(PathBuf, Vec<LossRow>)>> + use<>> {
    by_file(folder, LOSSES)
}

fn by_file<R: Row>(folder: &Path, name: &str) -> Result<impl Iterator<Item = Result<(PathBuf, Vec<R>)>> + use<R>> {
    let read = |path: PathBuf| read_rows(&path).map(|rows| (path, rows));
    Ok(segments(folder, name)?.into_iter().map(read))
}

fn read_segments<R: Row>(folder: &Path, name: &str) -> Result<Vec<R>> {
    let mut rows = Vec::new();
    for part in by_file(folder, name)? {
        rows.append(&mut part?.1);
    }
    Ok(rows)
}

fn append<R: Row>(folder: &Path, name: &str, rows: &mut Vec<R>) -> Result<()> {
    if !rows.is_empty() {
        let next = segments(folder, name)?.len();
        write_rows(&segment(folder, name, next), rows)?;
        rows.clear();
    }
    Ok(())
}

/// From the last file to the first, so that a crash on the way leaves no hole.
fn truncate<R: Row>(folder: &Path, name: &str, keep: impl Fn(&R) -> bool) -> Result<()> {
    let mut last = true;
    for path in segments(folder, name)?.into_iter().rev() {
        let mut rows: Vec<R> = read_rows(&path)?;
        let before = rows.len();
        rows.retain(&keep);
        if rows.is_empty() && last {
            remove(&path)?;
            continue;
        }
        last = false;
        if rows.len() < before {
            write_rows(&path, &rows)?;
        }
    }
    Ok(())
}

impl Row for StepRow {
    fn fields() -> Vec<Field> {
        vec![
            field("run", DataType::Utf8),
            field("step", DataType::UInt64),
            field("learning_rate", DataType::Float64),
            field("train_ids", list_of(DataType::Utf8)),
            field("train_loss", DataType::Float64),
        ]
    }

    fn columns(rows: &[Self]) -> Vec<ArrayRef> {
        vec![
            string_column(rows.iter().map(|r| &r.run)),
            number_column::<UInt64Type>(rows.iter().map(|r| r.step)),
            number_column::<Float64Type>(rows.iter().map(|r| r.learning_rate)),
            string_list_column(rows.iter().map(|r| Some(r.train_ids.as_slice()))),
            number_column::<Float64Type>(rows.iter().map(|r| r.train_loss)),
        ]
    }

    fn from_columns(columns: &Columns<'_>) -> Result<Vec<Self>> {
        let mut step = columns.numbers::<UInt64Type>("step")?.into_iter();
        let mut learning_rate = columns.numbers::<Float64Type>("learning_rate")?.into_iter();
        let mut train_ids = columns.string_lists("train_ids")?.into_iter();
        let mut train_loss = columns.numbers::<Float64Type>("train_loss")?.into_iter();
        let row = |run| {
            Some(Self {
                run,
                step: step.next()?,
                learning_rate: learning_rate.next()?,
                train_ids: train_ids.next()?.unwrap_or_default(),
                train_loss: train_loss.next()?,
            })
        };
        Ok(columns.strings("run")?.into_iter().map_while(row).collect())
    }
}

impl Row for LossRow {
    fn fields() -> Vec<Field> {
        vec![
            field("run", DataType::Utf8),
            field("step", DataType::UInt64),
            field("query_id", DataType::Utf8),
            field("loss", DataType::Float64),
        ]
    }

    fn columns(rows: &[Self]) -> Vec<ArrayRef> {
        vec![
            string_column(rows.iter().map(|r| &r.run)),
            number_column::<UInt64Type>(rows.iter().map(|r| r.step)),
            string_column(rows.iter().map(|r| &r.query_id)),
            number_column::<Float64Type>(rows.iter().map(|r| r.loss)),
        ]
    }

    fn from_columns(columns: &Columns<'_>) -> Result<Vec<Self>> {
        let mut step = columns.numbers::<UInt64Type>("step")?.into_iter();
        let mut query_id = columns.strings("query_id")?.into_iter();
        let mut loss = columns.numbers::<Float64Type>("loss")?.into_iter();
        let row = |run| Some(Self { run, step: step.next()?, query_id: query_id.next()?, loss: loss.next()? });
        Ok(columns.strings("run")?.into_iter().map_while(row).collect())
    }
}
