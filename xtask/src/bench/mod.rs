//! `cargo xtask bench peers`: etymon beside the Python tools, on the same weights, tokens, layers and precision.
//!
//! ```text
//! options → python (venv, models) → runs, alternating → results.json → tables in BENCHMARKS.md, docs/benchmarks.svg
//! ```
//!
//! Every run is a fresh process that answers with one JSON object; its largest resident set is read while it runs.

mod cases;
mod counts;
mod error;
mod etymon;
mod machine;
mod measurement;
mod options;
mod peak;
mod peers;
mod plot;
mod process;
mod python;
mod report;
mod tables;

use std::fs;
use std::path::{Path, PathBuf};

use cases::Tool;
pub use error::BenchError;
use error::Result;
use etymon::Binary;
use measurement::Results;
use options::Options;

/// What `cargo xtask bench` understands.
pub const USAGE: &str = options::USAGE;

/// Paths of one bench.
pub struct Folders {
    /// The repository.
    pub root: PathBuf,
    /// `target/peers`: the venv, models, factors, results.
    pub work: PathBuf,
}

impl Folders {
    fn new() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new(".")).to_owned();
        let work = root.join("target/peers");
        Self { root, work }
    }

    fn results(&self) -> PathBuf {
        self.work.join("results.json")
    }
}

/// Runs the bench that `args` (after `bench`) ask for.
///
/// # Errors
/// Bad options; a tool that cannot be started, fails or answers something else than its script should; files.
pub fn run(args: &[String]) -> Result<()> {
    let options = Options::parse(args)?;
    let folders = Folders::new();
    fs::create_dir_all(&folders.work).map_err(|source| BenchError::io(&folders.work, source))?;
    if !options.render {
        measure(&options, &folders)?;
    }
    report::write(&options, &folders, &Results::read(&folders.results())?)
}

fn measure(options: &Options, folders: &Folders) -> Result<()> {
    let etymon = Binary::find(options, folders)?;
    python::install(folders)?;
    python::make_models(options, folders)?;
    let runs = cases::runs(options);
    let mut results =
        Results { complete: options.complete, machine: machine::describe(options, &etymon), ..Results::default() };
    if !options.smoke {
        results.peak = peak::measure(folders)?;
    }
    for round in 1..=options.repeats {
        for (i, run) in runs.iter().enumerate() {
            eprintln!("bench: round {round} of {}, run {} of {}: {run}", options.repeats, i + 1, runs.len());
            results.runs.push(match run.tool {
                Tool::Etymon => etymon.run(run, options, folders)?,
                _ => peers::run(run, options, folders)?,
            });
            results.write(&folders.results())?;
        }
    }
    Ok(())
}
