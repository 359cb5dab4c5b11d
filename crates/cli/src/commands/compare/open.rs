//! Score tables that can be compared: opened together, and checked to be over the same rows and queries.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use etymon_store::{Manifest, QueryRow, RunFolder, ScoreTable, TopRow};
use etymon_viewer::TableName;
use serde_json::Value;

use crate::error::{CliError, Result};

/// Score tables over the same train examples and queries.
pub struct Tables {
    /// `[M]`
    pub folders: Vec<PathBuf>,
    /// `[M]`
    pub names: Vec<TableName>,
    tables: Vec<ScoreTable>,
    /// `[N]`
    pub train_ids: Vec<String>,
    /// In the order of the first table.
    pub queries: Vec<QueryRow>,
    /// Texts of train examples that are at the top of any table, by id.
    pub texts: BTreeMap<String, String>,
}

impl Tables {
    /// Opens score folders, and those in folders of score folders; refuses tables of other rows or queries.
    pub fn open(paths: &[PathBuf]) -> Result<Self> {
        let mut folders = Vec::new();
        for path in paths {
            folders.extend(score_folders(path)?);
        }
        if folders.len() < 2 {
            let problem = format!("there is nothing to compare {} with", paths[0].display());
            return Err(CliError::Usage { option: "FOLDER", problem });
        }
        let runs = folders.iter().map(|f| Ok(RunFolder::open_complete(f, "scores")?)).collect::<Result<Vec<_>>>()?;
        let tables = folders.iter().map(|f| Ok(ScoreTable::open(f)?)).collect::<Result<Vec<_>>>()?;
        let queries = QueryRow::read_all(&runs[0].file("queries.parquet"))?;
        let train_ids = tables[0].train_ids()?;
        let mut texts = BTreeMap::new();
        for (i, run) in runs.iter().enumerate() {
            if i > 0 {
                let others = QueryRow::read_all(&run.file("queries.parquet"))?;
                require_same("query", &folders, i, &shown(&queries), &shown(&others))?;
                require_same("train example", &folders, i, &train_ids, &tables[i].train_ids()?)?;
            }
            let top = TopRow::read_all(&run.file("top.parquet"))?;
            texts.extend(top.into_iter().filter_map(|row| Some((row.train_id, row.text?))));
        }
        let configs: Vec<&Value> = runs.iter().map(|run| &run.manifest().spec.config).collect();
        Ok(Self { names: names(&folders, &configs), folders, tables, train_ids, queries, texts })
    }

    /// `[M, N]` The scores of one query.
    pub fn columns(&self, query: &str) -> Result<Vec<Vec<f32>>> {
        self.tables.iter().map(|table| Ok(table.column(query)?)).collect()
    }
}

/// The folder itself, or the score folders in it, by name.
fn score_folders(path: &Path) -> Result<Vec<PathBuf>> {
    let is_scores = |folder: &Path| {
        let manifest = folder.join("manifest.json");
        manifest.exists() && Manifest::read(&manifest).is_ok_and(|manifest| manifest.spec.kind == "scores")
    };
    if is_scores(path) {
        return Ok(vec![path.to_owned()]);
    }
    let entries = std::fs::read_dir(path).into_iter().flatten().filter_map(std::result::Result::ok);
    let mut inside: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|folder| is_scores(folder)).collect();
    inside.sort();
    if inside.is_empty() {
        return Err(CliError::NoScores { folder: path.to_owned() });
    }
    Ok(inside)
}

/// Id and text of queries.
fn shown(queries: &[QueryRow]) -> Vec<String> {
    let text = |q: &QueryRow| {
        let parts = [Some(&q.query_id), q.prompt.as_ref(), q.completion.as_ref(), q.text.as_ref()];
        parts.into_iter().flatten().cloned().collect::<Vec<_>>().join(" | ")
    };
    queries.iter().map(text).collect()
}

/// Refuses the first difference of table `i` to the first one.
fn require_same(what: &'static str, folders: &[PathBuf], i: usize, first: &[String], other: &[String]) -> Result<()> {
    let Some(at) = (0..first.len().max(other.len())).find(|&at| first.get(at) != other.get(at)) else {
        return Ok(());
    };
    let name = |list: &[String]| list.get(at).map_or_else(|| "there is none".to_owned(), |id| format!("it is `{id}`"));
    Err(CliError::OtherRows {
        what,
        number: at + 1,
        folder: folders[0].clone(),
        found: name(first),
        other: folders[i].clone(),
        other_found: name(other),
    })
}

/// The methods where these tell the tables apart, else the folders' names, else the paths.
fn names(folders: &[PathBuf], configs: &[&Value]) -> Vec<TableName> {
    let methods = configs.iter().map(|c| c["method"].as_str().unwrap_or_default().to_owned());
    let last = |f: &PathBuf| f.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let choices: [Vec<String>; 2] = [methods.collect(), folders.iter().map(last).collect()];
    let paths = || folders.iter().map(|f| f.display().to_string()).collect();
    let chosen = choices.into_iter().find(|names| distinct(names)).unwrap_or_else(paths);
    let named = |((name, folder), config): ((String, &PathBuf), &&Value)| {
        let mut detail = vec![folder.display().to_string()];
        for key in ["method", "damping", "rank", "filter"] {
            match &config[key] {
                Value::Null => {}
                Value::String(text) if *text == name => {}
                Value::String(text) => detail.push(format!("{key} {text}")),
                value => detail.push(format!("{key} {value}")),
            }
        }
        TableName { name, detail: detail.join(", ") }
    };
    chosen.into_iter().zip(folders).zip(configs).map(named).collect()
}

/// Whether all are there, and none twice.
fn distinct(names: &[String]) -> bool {
    let unique: std::collections::BTreeSet<&String> = names.iter().filter(|n| !n.is_empty()).collect();
    unique.len() == names.len()
}
