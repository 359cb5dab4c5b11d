//! Where the logs are.

use std::path::{Path, PathBuf};

use etymon_data::is_table;

use crate::{Result, SimulateError};

/// The log folders that paths stand for, in the order of the paths, below each by name.
///
/// # Errors
/// A path without a log, and no path.
pub fn logs(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in paths {
        let below = below(path);
        if below.is_empty() {
            return Err(SimulateError::NoLog { path: path.clone() });
        }
        found.extend(below);
    }
    if found.is_empty() { Err(SimulateError::NoRuns) } else { Ok(found) }
}

/// The log here; else that of a run; else those of the runs below.
fn below(path: &Path) -> Vec<PathBuf> {
    if let Some(log) = here(path) {
        return vec![log];
    }
    let mut folders: Vec<PathBuf> = entries(path).filter(|p| p.is_dir()).collect();
    folders.sort();
    folders.iter().filter_map(|folder| here(folder)).collect()
}

fn here(path: &Path) -> Option<PathBuf> {
    [path.to_owned(), path.join("log")].into_iter().find(|folder| is_log(folder))
}

/// Whether a folder has a table of steps or of losses.
fn is_log(folder: &Path) -> bool {
    ["steps", "losses"].iter().any(|name| has_segments(folder, name) || !files(folder, name).is_empty())
}

/// Whether a table is there as `etymon train` writes it.
pub(super) fn has_segments(folder: &Path, name: &str) -> bool {
    folder.join(format!("{name}-00000.parquet")).exists()
}

/// Tables of another trainer: `steps.jsonl`, `steps.csv.gz` …
pub(super) fn files(folder: &Path, name: &str) -> Vec<PathBuf> {
    let is_named = |path: &PathBuf| {
        let file = path.file_name().and_then(|file| file.to_str()).unwrap_or_default();
        file.split('.').next() == Some(name) && is_table(path) && path.is_file()
    };
    let mut files: Vec<PathBuf> = entries(folder).filter(is_named).collect();
    files.sort();
    files
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> {
    std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}
