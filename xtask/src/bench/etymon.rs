//! Runs of etymon: `fit`, then `score`.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use super::cases::Run;
use super::measurement::{Answer, Measurement};
use super::options::Options;
use super::process::{self, Finished};
use super::{BenchError, Folders, Result};

/// The binary of etymon and what it understands.
pub struct Binary {
    path: PathBuf,
    /// `etymon 0.1.0`.
    pub version: String,
    /// Whether it is the build of this repository's commit.
    pub built_here: bool,
    has_dtype: bool,
}

/// What both commands print with `--json`.
#[derive(Deserialize)]
struct Printed {
    data: Counted,
    seconds: BTreeMap<String, f64>,
}

#[derive(Deserialize)]
struct Counted {
    examples: u64,
    tokens: u64,
}

impl Counted {
    /// The last token of an example is predicted, never an input.
    fn positions(&self) -> u64 {
        self.tokens - self.examples.min(self.tokens)
    }
}

impl Binary {
    /// The binary of the options, or the release build of this repository.
    ///
    /// # Errors
    /// It does not build or does not start.
    pub fn find(options: &Options, folders: &Folders) -> Result<Self> {
        let path = match &options.etymon {
            Some(path) => path.clone(),
            None => build(folders)?,
        };
        let ask = |args: &[&str]| process::run("etymon", Command::new(&path).args(args), &folders.work);
        let version = ask(&["--version"])?.stdout.trim().to_owned();
        let has_dtype = ask(&["fit", "--help"])?.stdout.contains("--dtype");
        Ok(Self { path, version, built_here: options.etymon.is_none(), has_dtype })
    }

    /// The two commands of a run, as a person types them in the root of the repository.
    pub fn commands(&self, run: &Run, options: &Options) -> [Vec<String>; 2] {
        let name = run.case.shape.name;
        let mut all = vec!["--model".to_owned(), format!("target/peers/models/{name}")];
        let mut add = |words: &[&str]| all.extend(words.iter().map(ToString::to_string));
        add(&["--data", &format!("target/peers/models/{name}.train.jsonl"), "--max-rows", &run.rows.to_string()]);
        add(&["--threads", &options.threads.to_string(), "--overwrite", "--json", "--quiet"]);
        if self.has_dtype {
            add(&["--dtype", run.precision.name()]);
        }
        if run.case.tapped < run.case.shape.blocks {
            add(&["--layers", &format!(r"h\.[0-{}]\.", run.case.tapped - 1)]);
        }
        let with = |words: &[&str]| words.iter().map(ToString::to_string).chain(all.iter().cloned()).collect();
        let queries = format!("target/peers/models/{name}.queries.jsonl");
        let (factors, scores) = ("target/peers/out/etymon/factors", "target/peers/out/etymon/scores");
        [
            with(&["fit", "--out", factors]),
            with(&["score", "--factors", factors, "--queries", &queries, "--out", scores]),
        ]
    }

    /// Fits and scores.
    ///
    /// # Errors
    /// Either command.
    pub fn run(&self, run: &Run, options: &Options, folders: &Folders) -> Result<Measurement> {
        if !self.has_dtype && run.precision != super::cases::Precision::F32 {
            let reason = "this build of etymon has no --dtype".to_owned();
            let missing = PHASES.iter().map(|phase| ((*phase).to_owned(), reason.clone())).collect();
            return Ok(Measurement::new(run, Answer { missing, ..Answer::default() }, 0.0, 0));
        }
        let out = folders.work.join("out/etymon");
        fs::create_dir_all(&out).map_err(|source| BenchError::io(&out, source))?;
        let [fit, score] = self.commands(run, options);
        let fit = self.call(&fit, folders)?;
        let score = self.call(&score, folders)?;
        let answer = answer(fit.json("etymon fit")?, score.json("etymon score")?);
        Ok(Measurement::new(run, answer, fit.wall + score.wall, fit.peak_kib.max(score.peak_kib)))
    }

    fn call(&self, words: &[String], folders: &Folders) -> Result<Finished> {
        let program = format!("etymon {}", words.join(" "));
        process::run(&program, Command::new(&self.path).args(words).current_dir(&folders.root), &folders.work)
    }
}

/// Said where a build prints the total alone: the figure is then too low, never too high.
const WHOLE: &str = "this build of etymon does not time the pass apart: the time is that of the whole of `etymon score`, \
                     preparing the queries and writing the top rows included";
const PHASES: [&str; 4] = ["covariance", "eigendecomposition", "correction", "scores"];

fn answer(fit: Printed, score: Printed) -> Answer {
    let mut answer = Answer { settings: "defaults".to_owned(), ..Answer::default() };
    let (fitted, scored) = (fit.data.positions(), score.data.positions());
    answer.positions = [("covariance", fitted), ("correction", fitted), ("scores", scored)]
        .map(|(phase, positions)| (phase.to_owned(), positions))
        .into();
    answer.seconds = fit.seconds;
    let pass = score.seconds.get("scores");
    if pass.is_none() {
        answer.notes.insert("scores".to_owned(), WHOLE.to_owned());
    }
    let scores = pass.or(score.seconds.get("total"));
    answer.seconds.extend(scores.map(|&seconds| ("scores".to_owned(), seconds)));
    answer.seconds.extend(score.seconds.get("queries").map(|&seconds| ("queries".to_owned(), seconds)));
    answer
}

fn build(folders: &Folders) -> Result<PathBuf> {
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--release", "--quiet", "--package", "etymon"]).current_dir(&folders.root);
    process::run("cargo build --release", &mut cargo, &folders.work)?;
    Ok(target(&folders.root).join("release/etymon"))
}

/// Where cargo builds.
fn target(root: &Path) -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |folder| root.join(folder))
}
