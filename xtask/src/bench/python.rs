//! The Python tools: one environment with pinned versions, and the models that all tools read.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::options::Options;
use super::{BenchError, Folders, Result, process};

impl Folders {
    /// The interpreter of the environment.
    pub fn python(&self) -> PathBuf {
        self.work.join("venv/bin/python")
    }

    /// A script of the peers.
    pub fn script(&self, name: &str) -> PathBuf {
        self.root.join("scripts/peers").join(name)
    }

    /// The folder of models and data.
    pub fn models(&self) -> PathBuf {
        self.work.join("models")
    }
}

/// Makes the environment, unless it is there with the same versions.
///
/// # Errors
/// No `python3` with `venv`; pip.
pub fn install(folders: &Folders) -> Result<()> {
    let (list, stamp) = (folders.script("requirements.txt"), folders.work.join("venv/installed.txt"));
    let wanted = fs::read_to_string(&list).map_err(|source| BenchError::io(&list, source))?;
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    eprintln!("bench: installing the peers into target/peers/venv (4 GB, some minutes)");
    let venv = folders.work.join("venv");
    process::run("python3 -m venv", Command::new("python3").args(["-m", "venv"]).arg(&venv), &folders.work)?;
    let mut pip = Command::new(folders.python());
    pip.args(["-m", "pip", "install", "--no-deps", "--quiet", "--requirement"]).arg(&list);
    process::run("pip install", &mut pip, &folders.work)?;
    fs::write(&stamp, wanted).map_err(|source| BenchError::io(&stamp, source))
}

/// Makes the models and data of the chosen cases.
///
/// # Errors
/// The script.
pub fn make_models(options: &Options, folders: &Folders) -> Result<()> {
    let mut rows = std::collections::BTreeMap::new();
    for case in &options.cases {
        let most = rows.entry(case.shape.name).or_insert(0);
        *most = case.rows.max(*most);
    }
    let wanted: Vec<String> = rows.iter().map(|(name, rows)| format!("{name}={rows}")).collect();
    let stamp = folders.models().join(format!("made-{}.txt", wanted.join("-")));
    if stamp.exists() {
        return Ok(());
    }
    let mut make = Command::new(folders.python());
    make.arg(folders.script("models.py")).arg(folders.models()).args(&wanted);
    process::run("models.py", &mut make, &folders.work)?;
    fs::write(&stamp, "").map_err(|source| BenchError::io(&stamp, source))
}
