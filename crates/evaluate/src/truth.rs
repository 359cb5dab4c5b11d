//! Retrained measurements on subsets, as a file.
//!
//! JSON lines, one per subset S_j: `{"kept": [train ids of S_j], "f": {query id: f(θ*(S_j)), …}}`; other keys are free.
//! `f` is the measurement, LARGER = MORE of the behaviour (a loss enters with its sign turned), mean over the retrainings
//! on the subset.

mod tables;

use std::collections::BTreeMap;
use std::path::Path;

use etymon_store::write_atomic;
use serde::{Deserialize, Serialize};

use crate::{EvaluateError, Result};

/// Subsets of the train set, and measurements of models that were trained on them.
#[derive(Clone, Debug, PartialEq)]
pub struct Truth {
    /// `[Q]` The queries.
    pub queries: Vec<String>,
    /// `[M]` The train examples of each subset, as positions in the train set, ascending.
    pub kept: Vec<Vec<usize>>,
    /// `[M][Q]` f(θ*(S_j)), mean over training seeds.
    pub values: Vec<Vec<f64>>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    kept: Vec<String>,
    f: BTreeMap<String, f64>,
}

impl Truth {
    /// Reads a file; the queries are those of its first line, in the order of their names.
    ///
    /// # Errors
    /// [`EvaluateError::Truth`] with the line: no JSON of the form, other queries than in the first line, an id that is
    /// not in `train`, a value that is not finite, fewer than two subsets.
    pub fn read(path: &Path, train: &[String]) -> Result<Self> {
        let wrong = |line, problem: String| EvaluateError::Truth { path: path.to_owned(), line, problem };
        let text = std::fs::read_to_string(path).map_err(|e| wrong(0, format!("cannot be read: {e}")))?;
        let positions: BTreeMap<&str, usize> = train.iter().enumerate().map(|(i, id)| (id.as_str(), i)).collect();
        let mut truth = Self { queries: Vec::new(), kept: Vec::new(), values: Vec::new() };
        for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let line: Line = serde_json::from_str(line).map_err(|e| wrong(i + 1, e.to_string()))?;
            let queries: Vec<String> = line.f.keys().cloned().collect();
            if truth.kept.is_empty() {
                truth.queries = queries;
            } else if truth.queries != queries {
                return Err(wrong(i + 1, "has other queries than the first line".to_owned()));
            }
            let find = |id: &String| {
                let position = positions.get(id.as_str()).copied();
                position.ok_or_else(|| wrong(i + 1, format!("`{id}` is no example of the train set")))
            };
            let mut kept = line.kept.iter().map(find).collect::<Result<Vec<_>>>()?;
            kept.sort_unstable();
            truth.kept.push(kept);
            truth.values.push(line.f.into_values().collect());
        }
        if truth.kept.len() < 2 || truth.queries.is_empty() {
            return Err(wrong(0, format!("{} subsets of {} queries", truth.kept.len(), truth.queries.len())));
        }
        Ok(truth)
    }

    /// Writes a file that [`read`](Self::read) reads.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write(&self, path: &Path, train: &[String]) -> Result<()> {
        Ok(write_atomic(path, |to| {
            for (kept, values) in self.kept.iter().zip(&self.values) {
                let kept = kept.iter().map(|&i| train[i].clone()).collect();
                let f = self.queries.iter().cloned().zip(values.iter().copied()).collect();
                serde_json::to_writer(&mut *to, &Line { kept, f })?;
                to.write_all(b"\n")?;
            }
            Ok(())
        })?)
    }
}
