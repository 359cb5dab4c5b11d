//! One run of a Python tool.

use std::process::Command;

use serde_json::json;

use super::cases::{Run, Task};
use super::measurement::Measurement;
use super::options::Options;
use super::{Folders, Result, process};

/// Runs a peer's script on its job.
///
/// # Errors
/// The script.
pub fn run(run: &Run, options: &Options, folders: &Folders) -> Result<Measurement> {
    let (shape, models) = (&run.case.shape, folders.models());
    let phases: &[&str] = match run.task {
        Task::Ekfac => &["covariance", "eigendecomposition", "correction", "scores"],
        Task::Covariance => &["covariance"],
        Task::Index => &["index"],
    };
    let job = json!({
        "model": models.join(shape.name),
        "data": models.join(format!("{}.train.jsonl", shape.name)),
        "queries": models.join(format!("{}.queries.jsonl", shape.name)),
        "out": folders.work.join("out").join(run.tool.name()),
        "layers": (0..run.case.tapped).collect::<Vec<_>>(),
        "n_blocks": shape.blocks,
        "dtype": run.precision.name(),
        "threads": options.threads,
        "batch": batch(run),
        "rows": run.rows,
        "phases": phases,
    });
    let script = format!("{}_run.py", run.tool.name());
    let mut command = Command::new(folders.python());
    command.arg(folders.script(&script)).arg(job.to_string());
    let finished = process::run(&script, &mut command, &folders.work)?;
    Ok(Measurement::new(run, finished.json(&script)?, finished.wall, finished.peak_kib))
}

/// Sequences per batch: 2048 positions on S and 1024 on M. BENCHMARKS.md says what a sweep found.
fn batch(run: &Run) -> usize {
    if run.case.shape.name == "S" { 16 } else { 4 }
}
