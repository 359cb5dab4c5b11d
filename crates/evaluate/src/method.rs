//! Score tables, of etymon or of any other tool.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use etymon_store::{RunFolder, ScoreTable};

use crate::{EvaluateError, Result};

/// A folder with a score table, and the name of its method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MethodFolder {
    /// Name of the folder; where two folders have the same, all of the path.
    pub name: String,
    /// The folder.
    pub path: PathBuf,
}

/// Scores of a method on some queries, for every train example.
#[derive(Clone, Debug, PartialEq)]
pub struct Method {
    /// What it is called.
    pub name: String,
    /// Seconds of the run that made the scores, where its manifest tells.
    pub seconds: Option<f64>,
    /// What the scores explain, where the manifest tells.
    pub measurement: Option<String>,
    /// `[Q][N]` I(q, m), positive = proponent, in the order of the queries and of the train set asked for.
    pub scores: Vec<Vec<f32>>,
}

/// The score tables that paths stand for: a path is a table, or a folder of tables.
///
/// # Errors
/// A path that is neither.
pub fn find_methods(paths: &[PathBuf]) -> Result<Vec<MethodFolder>> {
    let mut found: Vec<PathBuf> = Vec::new();
    for path in paths {
        if ScoreTable::open(path).is_ok() {
            found.push(path.clone());
            continue;
        }
        let entries = std::fs::read_dir(path).map(|entries| entries.flatten().map(|e| e.path()).collect::<Vec<_>>());
        let mut below: Vec<PathBuf> = entries.unwrap_or_default();
        below.retain(|folder| is_complete(folder));
        below.sort();
        if below.is_empty() {
            // The error of the table itself says more where there is a part of one.
            if path.join("manifest.json").exists() {
                ScoreTable::open(path)?;
            }
            return Err(EvaluateError::NoScores { folder: path.clone() });
        }
        found.extend(below);
    }
    let name = |path: &Path| path.file_name().map(|n| n.to_string_lossy().into_owned());
    let mut count: BTreeMap<Option<String>, usize> = BTreeMap::new();
    found.iter().for_each(|path| *count.entry(name(path)).or_default() += 1);
    let named = |path: PathBuf| {
        let short = name(&path).filter(|n| count.get(&Some(n.clone())) == Some(&1));
        MethodFolder { name: short.unwrap_or_else(|| path.display().to_string()), path }
    };
    Ok(found.into_iter().map(named).collect())
}

/// Whether a folder has a score table, and is not that of an unfinished run.
fn is_complete(folder: &Path) -> bool {
    let finished = !folder.join("manifest.json").exists() || RunFolder::open_complete(folder, "scores").is_ok();
    folder.is_dir() && finished && ScoreTable::open(folder).is_ok()
}

impl MethodFolder {
    /// The train examples of the table, in its order.
    ///
    /// # Errors
    /// A table that cannot be read.
    pub fn train_ids(&self) -> Result<Vec<String>> {
        Ok(ScoreTable::open(&self.path)?.train_ids()?)
    }

    /// Checks the table against train examples and queries, without reading its scores.
    ///
    /// # Errors
    /// A run that is not complete; queries or rows that are missing, rows of unknown examples.
    pub fn check(&self, train: &[String], queries: &[String]) -> Result<()> {
        self.open(train, queries).map(drop)
    }

    /// Reads the scores.
    ///
    /// # Errors
    /// As [`check`](Self::check); scores that are not finite.
    pub fn read(&self, train: &[String], queries: &[String]) -> Result<Method> {
        let (table, place) = self.open(train, queries)?;
        let mut scores = Vec::with_capacity(queries.len());
        for query in queries {
            let column = table.column(query)?;
            let mut row = vec![0.0f32; train.len()];
            for (&at, &value) in place.iter().zip(&column) {
                if !value.is_finite() {
                    let (folder, id, query) = (self.path.clone(), train[at].clone(), query.clone());
                    return Err(EvaluateError::NotFinite { folder, id, query, value });
                }
                row[at] = value;
            }
            scores.push(row);
        }
        let manifest = self.manifest()?;
        let seconds = manifest.as_ref().and_then(|m| m.manifest().timings.get("total").copied());
        let measurement = manifest.and_then(|m| m.manifest().spec.config["measurement"].as_str().map(str::to_owned));
        Ok(Method { name: self.name.clone(), seconds, measurement, scores })
    }

    /// The run that made the table, if it was etymon's.
    fn manifest(&self) -> Result<Option<RunFolder>> {
        let exists = self.path.join("manifest.json").exists();
        Ok(exists.then(|| RunFolder::open_complete(&self.path, "scores")).transpose()?)
    }

    /// The table, and the train example of each of its rows.
    fn open(&self, train: &[String], queries: &[String]) -> Result<(ScoreTable, Vec<usize>)> {
        self.manifest()?;
        let folder = || self.path.clone();
        let table = ScoreTable::open(&self.path)?;
        let known: BTreeSet<&str> = table.queries().iter().map(String::as_str).collect();
        if let Some(query) = queries.iter().find(|q| !known.contains(q.as_str())) {
            return Err(EvaluateError::MissingQuery { folder: folder(), query: query.clone() });
        }
        let positions: BTreeMap<&str, usize> = train.iter().enumerate().map(|(i, id)| (id.as_str(), i)).collect();
        let mut seen = vec![false; train.len()];
        let mut place = Vec::with_capacity(train.len());
        for id in table.train_ids()? {
            let Some(&at) = positions.get(id.as_str()) else {
                return Err(EvaluateError::UnknownRow { folder: folder(), id });
            };
            if std::mem::replace(&mut seen[at], true) {
                return Err(EvaluateError::DuplicateRow { folder: folder(), id });
            }
            place.push(at);
        }
        match seen.iter().position(|&s| !s) {
            None => Ok((table, place)),
            Some(at) => {
                let (got, expected) = (place.len(), train.len());
                Err(EvaluateError::MissingRows { folder: folder(), got, expected, id: train[at].clone() })
            }
        }
    }
}

impl Method {
    /// Whether the scores explain another scalar than `name`.
    pub fn explains_other(&self, name: &str) -> bool {
        self.measurement.as_deref().is_some_and(|measurement| measurement != name)
    }
}
