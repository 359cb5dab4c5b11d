//! Raw rows: what a file holds, before it is checked and tokenized.

mod idx;
mod lines;
mod named;
mod parquet;
mod table;

use std::sync::Arc;

use csv::ByteRecord;
use serde_json::{Map, Value};

pub(crate) use idx::is_idx;
pub use idx::labels_of;
pub use named::{TableRow, TableRows, is_table, read_table};
pub(crate) use table::{Kind, Table};

use crate::files::DataFile;
use crate::{CorpusOptions, Format, Place, Result};

/// One row as the file holds it.
pub(crate) enum RawRow {
    /// A line with a JSON object.
    Json(Vec<u8>),
    /// A line of text.
    Text(Vec<u8>),
    /// Columns with values.
    Object(Map<String, Value>),
    /// Numbers and a class.
    Image { values: Vec<f32>, class: u32 },
    /// A record of a CSV file.
    Record(Arc<Table>, ByteRecord),
}

/// The rows of one file.
trait Source: Send {
    /// The next row with its line (from 1), or none at the end.
    fn next_row(&mut self) -> Result<Option<(u64, RawRow)>>;
}

/// Where a row is, in little memory.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct RowPlace {
    pub file: u32,
    pub line: u64,
}

impl RowPlace {
    pub(crate) fn of(self, files: &[DataFile]) -> Place {
        let file = files.get(self.file as usize).map(|file| file.path.clone()).unwrap_or_default();
        Place { file, line: self.line }
    }
}

/// What the reader of a file has to know of the corpus.
#[derive(Clone, Debug)]
pub(crate) struct RowOptions {
    pub corpus: Arc<CorpusOptions>,
    /// Whether columns of text can be used.
    pub has_encoder: bool,
}

/// The rows of all files, one file after the other.
pub(crate) struct Rows {
    files: Arc<[DataFile]>,
    options: RowOptions,
    file: usize,
    source: Option<Box<dyn Source>>,
}

impl Rows {
    pub(crate) fn new(files: Arc<[DataFile]>, options: RowOptions) -> Self {
        Self { files, options, file: 0, source: None }
    }

    pub(crate) fn next_row(&mut self) -> Result<Option<(RowPlace, RawRow)>> {
        while let Some(file) = self.files.get(self.file) {
            if self.source.is_none() {
                self.source = Some(open_source(file, &self.options)?);
            }
            if let Some(source) = &mut self.source
                && let Some((line, row)) = source.next_row()?
            {
                return Ok(Some((RowPlace { file: self.file as u32, line }, row)));
            }
            self.source = None;
            self.file += 1;
        }
        Ok(None)
    }
}

/// Opens each file and looks at its header; says whether any has a row.
pub(crate) fn check_files(files: &[DataFile], options: &RowOptions) -> Result<bool> {
    let mut any = false;
    for file in files {
        any |= open_source(file, options)?.next_row()?.is_some();
    }
    Ok(any)
}

fn open_source(file: &DataFile, options: &RowOptions) -> Result<Box<dyn Source>> {
    Ok(match file.format {
        Format::Jsonl => Box::new(lines::Lines::open(&file.path, RawRow::Json)?),
        Format::Text => Box::new(lines::Lines::open(&file.path, RawRow::Text)?),
        Format::Csv => Box::new(table::Records::open(&file.path, options)?),
        Format::Idx => Box::new(idx::Images::open(&file.path)?),
        Format::Parquet => Box::new(parquet::Table::open(&file.path, options)?),
    })
}
