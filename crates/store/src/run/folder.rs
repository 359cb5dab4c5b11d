//! The output folder of a command.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::manifest::{FORMAT_VERSION, Manifest, RunSpec, RunStatus};
use crate::atomic::{list, remove, remove_leftovers};
use crate::error::{Result, StoreError};
use crate::json::write_json_atomic;

const MANIFEST: &str = "manifest.json";

/// What to do with a folder that holds a run of other settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overwrite {
    /// Keep it, and fail.
    Refuse,
    /// Start anew, whatever the settings of the run there and how far it is. Only a folder of the same kind of run is
    /// emptied.
    Replace,
}

/// What [`RunFolder::open_or_create`] found.
#[derive(Debug)]
pub enum Opened {
    /// Nothing: a new run.
    Created(RunFolder),
    /// The same run, not finished: `manifest().progress` tells how far it is.
    Resumed(RunFolder),
    /// The same run, finished: there is nothing to do.
    AlreadyComplete(RunFolder),
}

/// A folder with a manifest: the output of one command.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    manifest: Manifest,
}

impl RunFolder {
    /// Opens the folder of a run to work in, or creates it.
    ///
    /// # Errors
    /// When the folder holds a run of other settings ([`StoreError::Mismatch`]) or of another kind, or files that are no
    /// run; when the disk refuses.
    pub fn open_or_create(path: &Path, spec: RunSpec, overwrite: Overwrite) -> Result<Opened> {
        let file = path.join(MANIFEST);
        if !file.exists() {
            if path.exists() && !is_empty(path)? {
                return Err(StoreError::NotARunFolder { path: path.to_owned() });
            }
            return Self::create(path, spec).map(Opened::Created);
        }

        let manifest = Manifest::read(&file)?;
        check_kind(path, &manifest, &spec.kind)?;
        if overwrite == Overwrite::Replace || manifest.status == RunStatus::Clearing {
            Self { path: path.to_owned(), manifest }.clear()?;
            return Self::create(path, spec).map(Opened::Created);
        }
        let differences = manifest.spec.differences(&spec);
        if !differences.is_empty() {
            return Err(StoreError::Mismatch { path: path.to_owned(), differences });
        }
        let run = Self { path: path.to_owned(), manifest };
        if run.manifest.status == RunStatus::Complete {
            return Ok(Opened::AlreadyComplete(run));
        }
        remove_leftovers(path)?;
        Ok(Opened::Resumed(run))
    }

    /// Opens the folder of a complete run to read.
    ///
    /// # Errors
    /// When there is no run, it is of another kind, or not complete.
    pub fn open_complete(path: &Path, kind: &str) -> Result<Self> {
        let manifest = Manifest::read(&path.join(MANIFEST))?;
        check_kind(path, &manifest, kind)?;
        match manifest.status {
            RunStatus::Complete => Ok(Self { path: path.to_owned(), manifest }),
            status => Err(StoreError::NotComplete { path: path.to_owned(), status }),
        }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of a file in the folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The manifest, as it is on the disk.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Notes what the run needs to resume from here. What `progress` refers to must be on the disk before.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn update_progress(&mut self, progress: Value) -> Result<()> {
        self.manifest.progress = progress;
        self.save()
    }

    /// Removes a folder in the folder, if it is there.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn remove(&self, name: &str) -> Result<()> {
        let path = self.file(name);
        match fs::remove_dir_all(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(StoreError::io("removing", &path, e)),
            _ => Ok(()),
        }
    }

    /// Marks the run as finished; `timings` are seconds per phase.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn complete(mut self, timings: BTreeMap<String, f64>) -> Result<Self> {
        self.manifest.timings = timings;
        self.manifest.status = RunStatus::Complete;
        self.save()?;
        Ok(self)
    }

    fn create(path: &Path, spec: RunSpec) -> Result<Self> {
        let manifest = Manifest {
            format_version: FORMAT_VERSION,
            etymon_version: env!("CARGO_PKG_VERSION").to_owned(),
            status: RunStatus::Running,
            spec,
            progress: Value::Null,
            timings: BTreeMap::new(),
        };
        let run = Self { path: path.to_owned(), manifest };
        run.save()?;
        Ok(run)
    }

    /// Empties the folder. The manifest stays until the next run replaces it and says so meanwhile: killed on the way,
    /// the folder is neither taken for a run nor for someone else's.
    fn clear(mut self) -> Result<()> {
        self.manifest.status = RunStatus::Clearing;
        self.save()?;
        for entry in list(&self.path)? {
            let path = entry.path();
            let kind = entry.file_type().map_err(|e| StoreError::io("reading", &path, e))?;
            if kind.is_dir() {
                fs::remove_dir_all(&path).map_err(|e| StoreError::io("removing", &path, e))?;
            } else if entry.file_name() != MANIFEST {
                remove(&path)?;
            }
        }
        Ok(())
    }

    fn save(&self) -> Result<()> {
        write_json_atomic(&self.path.join(MANIFEST), &self.manifest)
    }
}

fn check_kind(path: &Path, manifest: &Manifest, expected: &str) -> Result<()> {
    let found = &manifest.spec.kind;
    if found == expected {
        return Ok(());
    }
    Err(StoreError::WrongKind { path: path.to_owned(), expected: expected.to_owned(), found: found.clone() })
}

/// Whether there is nothing in a folder but, perhaps, the beginning of a manifest.
fn is_empty(folder: &Path) -> Result<bool> {
    Ok(list(folder)?.iter().all(|entry| entry.file_name() == "manifest.json.part"))
}
