//! Curricula as files: a line of JSON per step.

use std::collections::BTreeMap;
use std::path::Path;

use etymon_store::write_atomic;
use serde::{Deserialize, Serialize};

use crate::curriculum::Curriculum;
use crate::{Result, SimulateError};

/// `{"step": 0, "train_ids": ["a", "b"], "learning_rate": 0.001}`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    step: usize,
    train_ids: Vec<String>,
    learning_rate: f64,
}

impl Curriculum {
    /// Reads a file: a line of JSON per step, `{"step": 0, "train_ids": ["a", "b"], "learning_rate": 0.001}`, steps from 0 on.
    ///
    /// # Errors
    /// With the line: what is no such step, steps out of order, ids that are not among `train_ids`, learning rates that are
    /// negative or not finite; a file without steps.
    pub fn read(path: &Path, train_ids: &[String]) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| SimulateError::CurriculumLine {
            path: path.to_owned(),
            line: 0,
            problem: format!("cannot be read: {e}"),
        })?;
        let index: BTreeMap<&str, usize> = train_ids.iter().enumerate().map(|(i, id)| (id.as_str(), i)).collect();
        let mut curriculum = Self::default();
        for (number, text) in text.lines().enumerate().filter(|(_, text)| !text.trim().is_empty()) {
            let wrong = |problem| SimulateError::CurriculumLine { path: path.to_owned(), line: number + 1, problem };
            let line: Line = serde_json::from_str(text).map_err(|e| wrong(e.to_string()))?;
            if line.step != curriculum.n_steps() {
                return Err(wrong(format!(
                    "step {}, expected {}: steps rise by one, from 0",
                    line.step,
                    curriculum.n_steps()
                )));
            }
            if !(line.learning_rate.is_finite() && line.learning_rate >= 0.0) {
                return Err(wrong(format!("the learning rate is {}, must be 0 or more", line.learning_rate)));
            }
            let place = |id: &String| {
                index.get(id.as_str()).copied().ok_or_else(|| wrong(format!("`{id}` is no train example of the runs")))
            };
            curriculum.batches.push(line.train_ids.iter().map(place).collect::<Result<_>>()?);
            curriculum.learning_rates.push(line.learning_rate);
        }
        if curriculum.batches.iter().all(Vec::is_empty) {
            let problem = "there is no example to train on".to_owned();
            return Err(SimulateError::CurriculumLine { path: path.to_owned(), line: 0, problem });
        }
        Ok(curriculum)
    }

    /// Writes a file that [`Curriculum::read`] reads.
    ///
    /// # Errors
    /// A position outside of `train_ids`; the disk.
    pub fn write(&self, path: &Path, train_ids: &[String]) -> Result<()> {
        let mut text = Vec::new();
        for (step, (batch, &learning_rate)) in self.batches.iter().zip(&self.learning_rates).enumerate() {
            let id = |&index: &usize| {
                let n = train_ids.len();
                train_ids.get(index).cloned().ok_or(SimulateError::NoSuchExample { step, index, n })
            };
            let line = Line { step, train_ids: batch.iter().map(id).collect::<Result<_>>()?, learning_rate };
            serde_json::to_writer(&mut text, &line).map_err(|e| SimulateError::CurriculumLine {
                path: path.to_owned(),
                line: step + 1,
                problem: e.to_string(),
            })?;
            text.push(b'\n');
        }
        Ok(write_atomic(path, |to| to.write_all(&text))?)
    }
}
