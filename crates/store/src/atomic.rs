//! Files that appear whole or not at all.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::error::{Result, StoreError};

/// What a file is called while it is being written: `NAME.part`.
pub(crate) const PART: &str = "part";

/// A file in the making: written as `NAME.part`, and under its own name only after [`commit`](Self::commit).
/// Dropped before that, it leaves nothing; killed before that, it leaves a `.part` that the next attempt overwrites.
#[derive(Debug)]
pub struct AtomicFile {
    writer: BufWriter<File>,
    part: PathBuf,
    path: PathBuf,
    committed: bool,
}

impl AtomicFile {
    /// Starts the file, and its folder if need be.
    ///
    /// # Errors
    /// When the folder or the `.part` file cannot be created.
    pub fn create(path: &Path) -> Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|e| StoreError::io("creating", folder, e))?;
        }
        let part = part_path(path);
        let file = File::create(&part).map_err(|e| StoreError::io("creating", path, e))?;
        Ok(Self { writer: BufWriter::with_capacity(1 << 16, file), part, path: path.to_owned(), committed: false })
    }

    /// The name the file will have.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Flushes the file to the disk and gives it its name, replacing what had it.
    ///
    /// # Errors
    /// When the disk refuses; the old file, if any, is then untouched.
    pub fn commit(mut self) -> Result<()> {
        self.try_commit().map_err(|e| StoreError::io("writing", &self.path, e))?;
        self.committed = true;
        sync_folder_of(&self.path)
    }

    fn try_commit(&mut self) -> io::Result<()> {
        self.writer.flush()?;
        self.writer.get_ref().sync_all()?;
        fs::rename(&self.part, &self.path)
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

impl Seek for AtomicFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.writer.seek(to)
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if !self.committed {
            // Best effort: a `.part` that stays is ignored by every reader.
            let _ = fs::remove_file(&self.part);
        }
    }
}

/// Writes a whole file through `write`; it appears under `path` only when complete and on the disk.
///
/// # Errors
/// When the disk refuses, or with what `write` returns.
pub fn write_atomic(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    let mut file = AtomicFile::create(path)?;
    write(&mut file).map_err(|e| StoreError::io("writing", path, e))?;
    file.commit()
}

/// Copies a file; the copy appears whole or not at all.
///
/// # Errors
/// When `from` cannot be read or `to` cannot be written.
pub fn copy_atomic(from: &Path, to: &Path) -> Result<()> {
    let mut source = File::open(from).map_err(|e| StoreError::io("reading", from, e))?;
    write_atomic(to, |w| io::copy(&mut source, w).map(drop))
}

/// Removes the `.part` files an earlier, killed run left in `folder` and below.
pub(crate) fn remove_leftovers(folder: &Path) -> Result<()> {
    for entry in list(folder)? {
        let kind = entry.file_type().map_err(|e| StoreError::io("reading", &entry.path(), e))?;
        if kind.is_dir() {
            remove_leftovers(&entry.path())?;
        } else if entry.path().extension().is_some_and(|e| e == PART) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

pub(crate) fn remove(file: &Path) -> Result<()> {
    fs::remove_file(file).map_err(|e| StoreError::io("removing", file, e))
}

/// The entries of a folder, in the order of their names.
pub(crate) fn list(folder: &Path) -> Result<Vec<fs::DirEntry>> {
    let entries = fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let mut entries = entries.map_err(|e| StoreError::io("reading", folder, e))?;
    entries.sort_by_key(fs::DirEntry::file_name);
    Ok(entries)
}

fn part_path(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".");
    name.push(PART);
    name.into()
}

/// A rename is on the disk only when its folder is.
fn sync_folder_of(path: &Path) -> Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    // Windows cannot open a folder as a file, and does not need to.
    if cfg!(unix) {
        File::open(folder).and_then(|f| f.sync_all()).map_err(|e| StoreError::io("writing", folder, e))?;
    }
    Ok(())
}
