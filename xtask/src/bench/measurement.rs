//! What a run measured, and the file of all of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::cases::Run;
use super::{BenchError, Result};

/// What a tool answers.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Answer {
    /// Seconds of each phase.
    pub seconds: BTreeMap<String, f64>,
    /// Positions that each phase of tokens went over.
    #[serde(default)]
    pub positions: BTreeMap<String, u64>,
    /// Phases that the tool does not have here, and why.
    #[serde(default)]
    pub missing: BTreeMap<String, String>,
    /// Phases whose figure needs a word of explanation.
    #[serde(default)]
    pub notes: BTreeMap<String, String>,
    /// Settings of the tool, in words.
    #[serde(default)]
    pub settings: String,
    /// Versions of packages.
    #[serde(default)]
    pub versions: BTreeMap<String, String>,
}

/// One run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measurement {
    /// Name of the case.
    pub case: String,
    /// Name of the tool.
    pub tool: String,
    /// Name of the task.
    pub task: String,
    /// Name of the precision.
    pub precision: String,
    /// Rows of the train set.
    pub rows: usize,
    /// Seconds from start to end of the process (of etymon: of its two).
    pub wall: f64,
    /// Largest resident set, KiB; 0 where the system does not tell.
    pub peak_kib: u64,
    /// What the tool answered.
    #[serde(flatten)]
    pub answer: Answer,
}

impl Measurement {
    /// What `run` measured.
    pub fn new(run: &Run, answer: Answer, wall: f64, peak_kib: u64) -> Self {
        Self {
            case: run.case.name.to_owned(),
            tool: run.tool.name().to_owned(),
            task: run.task.name().to_owned(),
            precision: run.precision.name().to_owned(),
            rows: run.rows,
            wall,
            peak_kib,
            answer,
        }
    }

    /// Positions per second of a phase.
    pub fn speed(&self, phase: &str) -> Option<f64> {
        let seconds = self.answer.seconds.get(phase).filter(|&&seconds| seconds > 0.0)?;
        Some(*self.answer.positions.get(phase)? as f64 / seconds)
    }
}

/// A bench.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Results {
    /// Whether all cases, tools and precisions were run, at their full size.
    #[serde(default)]
    pub complete: bool,
    /// The machine and the commands, as lines of text.
    pub machine: Vec<String>,
    /// Best GFLOP/s of a large product, by precision.
    pub peak: BTreeMap<String, f64>,
    /// All runs, in their order.
    pub runs: Vec<Measurement>,
}

impl Results {
    /// Reads the file of a bench.
    ///
    /// # Errors
    /// No such file, or not one of a bench.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).map_err(|source| BenchError::io(path, source))?;
        serde_json::from_str(&text)
            .map_err(|error| BenchError::Answer { program: path.display().to_string(), problem: error.to_string() })
    }

    /// Writes the file, after every run: what is measured is kept when a later run fails.
    ///
    /// # Errors
    /// The disk.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)
            .map_err(|error| BenchError::Answer { program: "the bench".to_owned(), problem: error.to_string() })?;
        fs::write(path, text).map_err(|source| BenchError::io(path, source))
    }

    /// The runs of one tool.
    pub fn of<'a>(&'a self, case: &str, task: &str, tool: &str, precision: &str) -> Vec<&'a Measurement> {
        let same = |m: &&Measurement| m.case == case && m.task == task && m.tool == tool && m.precision == precision;
        self.runs.iter().filter(same).collect()
    }
}

/// The middle value; the mean of the two in the middle of an even number.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    let lower = *values.get((values.len() - 1) / 2)?;
    Some((lower + upper) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_is_the_middle_or_the_mean_of_two() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0]), Some(2.5));
    }
}
