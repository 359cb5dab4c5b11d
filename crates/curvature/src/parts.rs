//! Factors of single groups of layers, each in a folder of its own until all are joined. A folder is named by its layers, so
//! that an interrupted fit goes on after the finished ones, also in other groups.

use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::{CurvatureError, Factors, Result};

const PARTS: &str = "unfinished";

/// Where the factors of some layers are made.
pub(crate) fn folder(folder: &Path, layers: &Range<usize>) -> PathBuf {
    folder.join(PARTS).join(format!("layers-{:05}-{:05}", layers.start, layers.end))
}

/// The consecutive groups, from the first layer on, whose factors are complete.
pub(crate) fn finished(of: &Path, n_layers: usize, correction: bool) -> Vec<Range<usize>> {
    let mut done: Vec<Range<usize>> = Vec::new();
    loop {
        let start = done.last().map_or(0, |last| last.end);
        let next = (start + 1..=n_layers).map(|end| start..end);
        let Some(next) = next.rev().find(|layers| Factors::are_in(&folder(of, layers), correction)) else {
            return done;
        };
        done.push(next);
    }
}

/// Removes the factors of single groups.
pub(crate) fn remove(folder: &Path) -> Result<()> {
    let path = folder.join(PARTS);
    match std::fs::remove_dir_all(&path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(CurvatureError::Remove { path, source }),
        _ => Ok(()),
    }
}
