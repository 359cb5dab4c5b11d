//! The files `NAME-00000.parquet`, `NAME-00001.parquet`, … of one table.

use std::path::{Path, PathBuf};

use crate::atomic::list;
use crate::error::{Result, StoreError};

/// The path of file `i`.
pub(super) fn segment(folder: &Path, name: &str, i: usize) -> PathBuf {
    folder.join(format!("{name}-{i:05}.parquet"))
}

/// The files of a table in order; none if the folder does not exist.
pub(super) fn segments(folder: &Path, name: &str) -> Result<Vec<PathBuf>> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let number = |file: &str| -> Option<usize> {
        file.strip_prefix(name)?.strip_prefix('-')?.strip_suffix(".parquet")?.parse().ok()
    };
    let count = list(folder)?.iter().filter_map(|e| number(&e.file_name().to_string_lossy())).map(|i| i + 1).max();
    let paths: Vec<_> = (0..count.unwrap_or(0)).map(|i| segment(folder, name, i)).collect();
    match paths.iter().find(|path| !path.exists()) {
        Some(path) => Err(StoreError::MissingSegment { path: path.clone() }),
        None => Ok(paths),
    }
}
