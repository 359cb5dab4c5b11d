//! What rows are called and say, read without a model.

use std::collections::BTreeMap;
use std::path::PathBuf;

use etymon_data::{Content, Corpus, CorpusOptions, Example, Format, Target, train_bpe};
use serde_json::{Map, Value};

use crate::args::CurriculumArgs;
use crate::error::{CliError, Result};

/// The rows of files by their ids.
pub fn read(paths: &[PathBuf], args: &CurriculumArgs) -> Result<BTreeMap<String, Example>> {
    if paths.is_empty() {
        return Ok(BTreeMap::new());
    }
    let known = |name: &String| {
        let problem = || format!("`{name}` is none of {}", Format::ALL.map(Format::name).join(", "));
        Format::from_name(name).ok_or_else(|| CliError::Usage { option: "--format", problem: problem() })
    };
    let format = args.format.as_ref().map(known).transpose()?;
    let options = CorpusOptions { format, label: args.label.clone(), ..CorpusOptions::default() };
    // Bytes for tokens: nothing is computed on them.
    let bytes = train_bpe(std::iter::empty::<String>(), 257, &[])?;
    let rows = Corpus::open(paths, Some(bytes), options)?.read_all()?;
    Ok(rows.into_iter().map(|row| (row.id.clone(), row)).collect())
}

/// `[n]` The columns of the rows of `ids`, their class as `label`; none without data.
pub fn of(ids: &[String], rows: &BTreeMap<String, Example>) -> Result<Option<Vec<Map<String, Value>>>> {
    if rows.is_empty() {
        return Ok(None);
    }
    let columns = |id: &String| {
        let problem = || format!("has no row `{id}`, which the runs trained on; is it the data of these runs?");
        let row = rows.get(id).ok_or_else(|| CliError::Usage { option: "--data", problem: problem() })?;
        let mut columns = row.metadata.clone();
        if let Content::Features { target: Target::Class(class), .. } = row.content {
            columns.entry("label").or_insert_with(|| class.into());
        }
        Ok(columns)
    };
    ids.iter().map(columns).collect::<Result<_>>().map(Some)
}
