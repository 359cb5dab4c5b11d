//! What an evaluation leaves: `evaluate.json`, `evaluate.svg` and a table.

use std::path::Path;

use etymon_evaluate::Interval;
use etymon_store::{read_json, write_atomic, write_json_atomic};
use serde_json::{Value, json};

use super::super::{CommandResult, Context, Outcome, aligned, print};
use crate::args::OutArgs;
use crate::error::{CliError, Result};

const RESULT: &str = "evaluate.json";

/// The result of an evaluation.
pub struct Verdict {
    /// Which figure.
    pub figure: &'static str,
    /// Everything that determines it, and what was retrained.
    pub settings: Value,
    /// One object per method.
    pub methods: Vec<Value>,
    /// Heads, then a row per method.
    pub table: Vec<Vec<String>>,
    /// The plot.
    pub svg: String,
}

/// Refuses a folder with files of something else, before any work.
pub fn check_out(out: &OutArgs, figure: &str) -> Result<()> {
    let folder = &out.out;
    let result = folder.join(RESULT);
    let refuse = |problem: String| Err(CliError::Usage { option: "--out", problem });
    if result.exists() {
        let there: Value = read_json(&result)?;
        let other = there["figure"].as_str().unwrap_or("something else");
        if other != figure && !out.overwrite {
            return refuse(format!(
                "{} has an evaluation by {other}; choose another folder or --overwrite",
                folder.display()
            ));
        }
        return Ok(());
    }
    let ours = ["worlds", "corrupted", "run", "scores", "factors", "truth.jsonl", "train.toml"];
    let foreign = std::fs::read_dir(folder).ok().into_iter().flatten().flatten().find(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        !ours.contains(&name.as_ref()) && !name.ends_with(".part")
    });
    match foreign {
        Some(entry) => refuse(format!("{} has files of something else ({})", folder.display(), entry.path().display())),
        None => Ok(()),
    }
}

impl Verdict {
    /// Writes and shows the result.
    pub fn finish(self, folder: &Path, context: Context) -> CommandResult {
        let value = json!({
            "figure": self.figure,
            "etymon_version": env!("CARGO_PKG_VERSION"),
            "settings": self.settings,
            "methods": self.methods,
        });
        write_atomic(&folder.join("evaluate.svg"), |to| to.write_all(self.svg.as_bytes()))?;
        write_json_atomic(&folder.join(RESULT), &value)?;
        if !context.global.json {
            aligned(&self.table).iter().for_each(|line| print(line));
        }
        context.reporter.say(format!("{} and evaluate.svg in {}", RESULT, folder.display()));
        Ok(Outcome::Done(value))
    }
}

/// `0.577 ± 0.025`.
pub fn shown(interval: Option<Interval>) -> String {
    interval.map_or_else(|| "-".to_owned(), |i| format!("{:.4} ± {:.4}", i.value, i.half_width()))
}

/// Seconds of a score run.
pub fn seconds(seconds: Option<f64>) -> String {
    seconds.map_or_else(|| "-".to_owned(), |s| format!("{s:.1}"))
}
