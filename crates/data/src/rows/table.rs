//! CSV files: which column is what, and the records.

use std::collections::VecDeque;
use std::io::{BufRead, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use csv::{ByteRecord, Reader, ReaderBuilder};

use super::{RawRow, RowOptions, Source};
use crate::{DataError, Result, Task};

/// Records that are looked at to learn which columns are numbers.
const PEEKED: usize = 64;

/// What a column is for.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// The id of the row.
    Id,
    /// A feature.
    Feature,
    /// The label.
    Label,
    /// A column of numbers to keep.
    Number,
    /// A column of text: to tokenize by its name, or to keep.
    Text,
}

/// The columns of a CSV file.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Table {
    pub columns: Vec<(String, Kind)>,
    /// What the label is.
    pub task: Task,
    /// Whether the rows are text, in the columns of a JSON object, rather than features.
    pub text: bool,
}

pub(super) struct Records {
    path: PathBuf,
    reader: Reader<Box<dyn BufRead + Send>>,
    peeked: VecDeque<ByteRecord>,
    table: Arc<Table>,
}

impl Records {
    pub(super) fn open(path: &Path, options: &RowOptions) -> Result<Self> {
        let mut reader = ReaderBuilder::new().has_headers(false).flexible(true).from_reader(crate::files::open(path)?);
        let mut peeked = VecDeque::new();
        while peeked.len() <= PEEKED
            && let Some(record) = read(&mut reader, path)?
        {
            peeked.push_back(record);
        }
        let names = match peeked.front() {
            None => Vec::new(),
            Some(first) if first.iter().all(|field| number(field).is_some()) => {
                (0..first.len()).map(|i| format!("x{i}")).collect()
            }
            Some(_) => peeked.pop_front().map(|header| header.iter().map(name).collect()).unwrap_or_default(),
        };
        let table = if peeked.is_empty() {
            Table { columns: Vec::new(), task: Task::Classification, text: false }
        } else {
            plan(path, names, &peeked, options)?
        };
        Ok(Self { path: path.to_path_buf(), reader, peeked, table: Arc::new(table) })
    }
}

impl Source for Records {
    fn next_row(&mut self) -> Result<Option<(u64, RawRow)>> {
        let record = match self.peeked.pop_front() {
            Some(record) => Some(record),
            None => read(&mut self.reader, &self.path)?,
        };
        Ok(record.map(|record| {
            let line = record.position().map_or(0, csv::Position::line);
            (line, RawRow::Record(Arc::clone(&self.table), record))
        }))
    }
}

fn read<R: Read>(reader: &mut Reader<R>, path: &Path) -> Result<Option<ByteRecord>> {
    let mut record = ByteRecord::new();
    match reader.read_byte_record(&mut record) {
        Ok(true) => Ok(Some(record)),
        Ok(false) => Ok(None),
        Err(source) => Err(DataError::Csv { file: path.to_path_buf(), source }),
    }
}

fn name(field: &[u8]) -> String {
    String::from_utf8_lossy(field).trim().to_owned()
}

/// The number in a field.
pub(crate) fn number(field: &[u8]) -> Option<f64> {
    std::str::from_utf8(field).ok()?.trim().parse().ok()
}

fn plan(path: &Path, names: Vec<String>, peeked: &VecDeque<ByteRecord>, options: &RowOptions) -> Result<Table> {
    let numeric: Vec<bool> = (0..names.len()).map(|column| is_numeric(column, peeked)).collect();
    let has = |name: &str| names.iter().any(|n| n == name);
    let text = options.has_encoder && (has("text") || (has("prompt") && has("completion")));
    let kind = |column: usize| match (names[column].as_str(), numeric[column]) {
        ("id", _) => Kind::Id,
        ("text" | "prompt" | "completion", _) if text => Kind::Text,
        (_, true) if text => Kind::Number,
        (_, true) => Kind::Feature,
        (_, false) => Kind::Text,
    };
    let mut kinds: Vec<Kind> = (0..names.len()).map(kind).collect();
    let mut task = options.corpus.task.unwrap_or(Task::Classification);
    if !text {
        let label = label_column(path, &names, &kinds, options)?;
        kinds[label] = Kind::Label;
        let classes = peeked.iter().filter_map(|record| number(record.get(label)?)).all(is_class);
        if options.corpus.task.is_none() && !classes {
            task = Task::Regression;
        }
    }
    Ok(Table { columns: names.into_iter().zip(kinds).collect(), task, text })
}

fn is_class(label: f64) -> bool {
    label >= 0.0 && label.fract() == 0.0 && label <= f64::from(u32::MAX)
}

/// Whether most of the fields that are not empty are numbers.
fn is_numeric(column: usize, peeked: &VecDeque<ByteRecord>) -> bool {
    let filled = peeked.iter().filter_map(|record| record.get(column)).filter(|field| !field.trim_ascii().is_empty());
    let (numbers, others): (Vec<&[u8]>, Vec<&[u8]>) = filled.partition(|field| number(field).is_some());
    numbers.len() > others.len()
}

fn label_column(path: &Path, names: &[String], kinds: &[Kind], options: &RowOptions) -> Result<usize> {
    let features: Vec<usize> = (0..names.len()).filter(|&i| kinds[i] == Kind::Feature).collect();
    let columns = || features.iter().map(|&i| names[i].as_str()).collect::<Vec<_>>().join(", ");
    let label = match &options.corpus.label {
        None => features.last().copied(),
        Some(label) => {
            let found = features.iter().copied().find(|&i| names[i] == *label);
            let missing =
                || DataError::LabelColumn { file: path.to_path_buf(), label: label.clone(), columns: columns() };
            Some(found.ok_or_else(missing)?)
        }
    };
    match label {
        Some(label) if features.len() >= 2 => Ok(label),
        _ => Err(DataError::NoFeatures { file: path.to_path_buf(), columns: columns() }),
    }
}
