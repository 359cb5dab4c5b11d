//! The rows of a log, with where each is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use etymon_data::Place;
use etymon_store::{LossRow, StepRow, loss_segments, step_segments};

use super::find;
use super::foreign::{self, Numbered};
use crate::{Result, SimulateError};

/// Where a row is, in little memory: a file of the log, and a line or row from 1.
#[derive(Clone, Copy, Debug)]
pub(super) struct At {
    file: u32,
    line: u32,
}

/// The rows of one run.
#[derive(Debug, Default)]
pub(super) struct RunRows {
    pub steps: Vec<(At, StepRow)>,
    pub losses: Vec<(At, LossRow)>,
}

/// The files of a log.
#[derive(Debug)]
pub(super) struct Log {
    pub folder: PathBuf,
    files: Vec<PathBuf>,
}

impl Log {
    /// Reads the rows of all runs of a folder.
    pub fn read(folder: &Path) -> Result<(Self, BTreeMap<String, RunRows>)> {
        let mut log = Self { folder: folder.to_owned(), files: Vec::new() };
        let mut runs: BTreeMap<String, RunRows> = BTreeMap::new();
        for (at, row) in log.table("steps", foreign::steps, step_segments(folder)?)? {
            runs.entry(row.run.clone()).or_default().steps.push((at, row));
        }
        for (at, row) in log.table("losses", foreign::losses, loss_segments(folder)?)? {
            runs.entry(row.run.clone()).or_default().losses.push((at, row));
        }
        Ok((log, runs))
    }

    /// Where a row is.
    pub fn place(&self, at: At) -> Place {
        let file = self.files.get(at.file as usize).cloned().unwrap_or_default();
        Place { file, line: u64::from(at.line) }
    }

    /// The rows of one table: of another trainer's file, or else of etymon's own.
    fn table<R>(
        &mut self,
        name: &str,
        read: fn(&Path, &str) -> Result<Numbered<R>>,
        own: impl Iterator<Item = etymon_store::Result<(PathBuf, Vec<R>)>>,
    ) -> Result<Vec<(At, R)>> {
        let mut files = find::files(&self.folder, name);
        if find::has_segments(&self.folder, name) {
            files.insert(0, self.folder.join(format!("{name}-00000.parquet")));
        } else if let [file] = &files[..] {
            let rows = read(file, &run_name(&self.folder))?;
            return Ok(self.placed(file.clone(), rows.into_iter()).collect());
        }
        if files.len() > 1 {
            let second = files.swap_remove(1);
            return Err(SimulateError::TwoLogs { first: files.swap_remove(0), second });
        }
        let mut all = Vec::new();
        for part in own {
            let (path, rows) = part?;
            all.extend(self.placed(path, (1..).zip(rows)));
        }
        Ok(all)
    }

    fn placed<R, I: Iterator<Item = (u64, R)>>(
        &mut self,
        path: PathBuf,
        rows: I,
    ) -> impl Iterator<Item = (At, R)> + use<R, I> {
        let file = self.files.len() as u32;
        self.files.push(path);
        rows.map(move |(line, row)| (At { file, line: u32::try_from(line).unwrap_or(u32::MAX) }, row))
    }
}

/// What the run of a log without a column `run` is called: its folder, or that around a folder `log`.
fn run_name(folder: &Path) -> String {
    let whole = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let named = if whole.ends_with("log") { whole.parent().unwrap_or(&whole) } else { &whole };
    named.file_name().map_or_else(|| "run".to_owned(), |name| name.to_string_lossy().into_owned())
}
