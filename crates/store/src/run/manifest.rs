//! The manifest of a run folder.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::difference::{self, Difference};
use super::fingerprint::Fingerprint;
use crate::error::{Result, StoreError};
use crate::json::read_json;

/// The format of run folders that this version writes and reads.
pub(super) const FORMAT_VERSION: u64 = 1;

/// Everything that determines what a run computes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunSpec {
    /// What the folder holds: "factors", "scores", "training", …
    pub kind: String,
    /// The full configuration of the command, defaults included.
    pub config: Value,
    /// The seed of each named random stream.
    pub seeds: BTreeMap<String, u64>,
    /// What was read, by its role: "model", "data", "queries", …
    pub inputs: BTreeMap<String, Fingerprint>,
}

/// `manifest.json` of a run folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The format of the folder.
    pub format_version: u64,
    /// The version of etymon that started the run.
    pub etymon_version: String,
    /// How far the run is.
    pub status: RunStatus,
    /// What the run computes.
    #[serde(flatten)]
    pub spec: RunSpec,
    /// What the run needs to resume; its shape is the command's own.
    pub progress: Value,
    /// Seconds per phase.
    pub timings: BTreeMap<String, f64>,
}

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunStatus {
    /// Started, and not finished.
    Running,
    /// Finished: the folder will not change.
    Complete,
    /// Being emptied for another run (`--overwrite`); nothing in it counts.
    Clearing,
}

impl fmt::Display for RunStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Running => "running",
            Self::Complete => "complete",
            Self::Clearing => "clearing",
        })
    }
}

impl RunSpec {
    /// Every setting in which `self`, found on the disk, differs from `requested`. Paths of inputs do not count.
    pub fn differences(&self, requested: &Self) -> Vec<Difference> {
        let mut out = Vec::new();
        difference::collect("config", Some(&self.config), Some(&requested.config), &mut out);
        difference::collect("seeds", Some(&json!(self.seeds)), Some(&json!(requested.seeds)), &mut out);
        difference::collect("inputs", Some(&contents(&self.inputs)), Some(&contents(&requested.inputs)), &mut out);
        out
    }
}

impl Manifest {
    /// Reads `manifest.json`.
    ///
    /// # Errors
    /// When it cannot be read, is no manifest, or of a format this version does not know.
    pub fn read(path: &Path) -> Result<Self> {
        let value: Value = read_json(path)?;
        match value.get("format_version").and_then(Value::as_u64) {
            Some(FORMAT_VERSION) => read_json(path),
            Some(found) => Err(StoreError::FormatVersion { path: path.to_owned(), found, supported: FORMAT_VERSION }),
            None => Err(StoreError::NotARunFolder { path: path.parent().unwrap_or(path).to_owned() }),
        }
    }
}

/// The inputs without their paths.
fn contents(inputs: &BTreeMap<String, Fingerprint>) -> Value {
    let content = |f: &Fingerprint| json!({ "bytes": f.bytes, "method": f.method, "sha256": f.sha256 });
    inputs.iter().map(|(role, f)| (role.clone(), content(f))).collect()
}
