//! Free disk space.

use std::path::{Path, PathBuf};

use crate::error::{Result, StoreError};

/// Bytes this process may still write on the file system of `path`, which need not exist yet.
///
/// # Errors
/// When the file system cannot be asked.
pub fn free_bytes(path: &Path) -> Result<u64> {
    let existing = std::path::absolute(path).map_err(|e| StoreError::io("reading", path, e))?;
    let existing = existing.ancestors().find(|p| p.exists()).map_or_else(|| PathBuf::from("."), Path::to_path_buf);
    fs4::available_space(&existing).map_err(|e| StoreError::io("asking the free space of", &existing, e))
}

/// Checks that `needed` bytes can be written at `path`.
///
/// # Errors
/// [`StoreError::NotEnoughSpace`] with both numbers.
pub fn require_space(path: &Path, needed: u64) -> Result<()> {
    let free = free_bytes(path)?;
    if free < needed { Err(StoreError::NotEnoughSpace { path: path.to_owned(), needed, free }) } else { Ok(()) }
}
