//! JSON files.

use std::fs;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::atomic::write_atomic;
use crate::error::{Result, StoreError};

/// Writes `value` as indented JSON, atomically.
///
/// # Errors
/// When `value` has no JSON form (a map whose keys are no strings) or the disk refuses.
pub fn write_json_atomic<T: Serialize + ?Sized>(path: &Path, value: &T) -> Result<()> {
    let mut text = serde_json::to_vec_pretty(value).map_err(|e| StoreError::json(path, e))?;
    text.push(b'\n');
    write_atomic(path, |w| w.write_all(&text))
}

/// Reads a JSON file.
///
/// # Errors
/// When the file cannot be read, or is not JSON of the type `T`: then with line and column.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read(path).map_err(|e| StoreError::io("reading", path, e))?;
    serde_json::from_slice(&text).map_err(|e| StoreError::json(path, e))
}
