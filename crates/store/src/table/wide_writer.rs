//! Writing score tables: key columns, then one float column per query.

use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::types::Float32Type;
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, Schema, SchemaRef};

use super::columns::{field, number_column};
use super::parquet_file::{ParquetWriter, arrow_error};
use super::segments::{segment, segments};
use super::wide::check_file;
use super::wide_keys::{ByExample, ByLayer, ByToken, RowKeys};
use crate::atomic::remove;
use crate::error::{Result, StoreError};

const ROWS_PER_FILE: usize = 1_000_000;

/// Writes `scores-*.parquet`.
pub type ScoreTableWriter = WideTableWriter<ByExample>;
/// Writes `layers-*.parquet`.
pub type LayerTableWriter = WideTableWriter<ByLayer>;
/// Writes `tokens-*.parquet`.
pub type TokenTableWriter = WideTableWriter<ByToken>;

/// A score table in the making: row after row, in files of a million rows, each there only when it is complete.
///
/// To resume, note [`n_files`](Self::n_files) after [`rotate`](Self::rotate) in the run's progress, and give it to
/// [`keep_files`](Self::keep_files) after opening the table again.
pub struct WideTableWriter<K> {
    folder: PathBuf,
    schema: SchemaRef,
    n_queries: usize,
    rows_per_file: usize,
    /// The rows of each complete file.
    complete: Vec<u64>,
    current: Option<(ParquetWriter, usize)>,
    keys: PhantomData<K>,
}

impl<K: RowKeys> WideTableWriter<K> {
    /// Opens the table in `folder`, to append after the complete files that are there.
    ///
    /// # Errors
    /// When a query id cannot name a column, or the files there are of other queries.
    pub fn open(folder: &Path, queries: &[String]) -> Result<Self> {
        let mut fields = K::fields();
        let mut names: BTreeSet<&str> = BTreeSet::from([""]);
        let own: Vec<String> = fields.iter().map(|f| f.name().clone()).collect();
        names.extend(own.iter().map(String::as_str));
        for query in queries {
            if !names.insert(query) {
                return Err(StoreError::QueryName { path: folder.to_owned(), query: query.clone() });
            }
            fields.push(field(query, DataType::Float32));
        }
        let complete = segments(folder, K::NAME)?.into_iter().map(|path| check_file::<K>(&path, queries));
        Ok(Self {
            folder: folder.to_owned(),
            schema: Arc::new(Schema::new(fields)),
            n_queries: queries.len(),
            rows_per_file: ROWS_PER_FILE,
            complete: complete.collect::<Result<_>>()?,
            current: None,
            keys: PhantomData,
        })
    }

    /// Sets the most rows of a file.
    #[must_use]
    pub fn with_rows_per_file(mut self, rows: NonZeroUsize) -> Self {
        self.rows_per_file = rows.get();
        self
    }

    /// Rows in complete files: the number that a resumed run may skip.
    pub fn rows_done(&self) -> u64 {
        self.complete.iter().sum()
    }

    /// The number of complete files.
    pub fn n_files(&self) -> usize {
        self.complete.len()
    }

    /// Drops all files but the first `n`, and the rows not yet in a file.
    ///
    /// # Errors
    /// When there are fewer files, or the disk refuses.
    pub fn keep_files(&mut self, n: usize) -> Result<()> {
        if self.complete.len() < n {
            return Err(StoreError::MissingSegment { path: segment(&self.folder, K::NAME, self.complete.len()) });
        }
        self.current = None;
        while self.complete.len() > n {
            remove(&segment(&self.folder, K::NAME, self.complete.len() - 1))?;
            self.complete.pop();
        }
        Ok(())
    }

    /// Completes the current file, if it has rows: they are then safe from a crash.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn rotate(&mut self) -> Result<()> {
        if let Some((file, rows)) = self.current.take() {
            file.finish()?;
            self.complete.push(rows as u64);
        }
        Ok(())
    }

    /// Completes the table; without rows, it is one empty file.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn finish(mut self) -> Result<()> {
        if self.current.is_none() && self.complete.is_empty() {
            self.current = Some((self.next_file()?, 0));
        }
        self.rotate()
    }

    /// Appends rows: `keys` are the key columns, `scores` is `[rows, queries]`.
    pub(super) fn push(&mut self, keys: Vec<ArrayRef>, scores: &[f32]) -> Result<()> {
        let batch = self.batch(keys, scores)?;
        let mut start = 0;
        while start < batch.num_rows() {
            let (mut file, rows) = match self.current.take() {
                Some(current) => current,
                None => (self.next_file()?, 0),
            };
            let n = (batch.num_rows() - start).min(self.rows_per_file - rows);
            file.write(&batch.slice(start, n))?;
            self.current = Some((file, rows + n));
            start += n;
            if rows + n == self.rows_per_file {
                self.rotate()?;
            }
        }
        Ok(())
    }

    fn batch(&self, mut columns: Vec<ArrayRef>, scores: &[f32]) -> Result<RecordBatch> {
        let rows = columns.first().map_or(0, |c| c.len());
        let wrong = |column, got| {
            let (path, queries) = (self.folder.clone(), self.n_queries);
            Err(StoreError::BlockShape { path, rows, queries, column, got })
        };
        if let Some(column) = columns.iter().find(|c| c.len() != rows) {
            return wrong("a key column", column.len());
        }
        if scores.len() != rows * self.n_queries {
            return wrong("scores", scores.len());
        }
        for q in 0..self.n_queries {
            columns.push(number_column::<Float32Type>(scores.iter().skip(q).step_by(self.n_queries).copied()));
        }
        RecordBatch::try_new(self.schema.clone(), columns).map_err(|e| arrow_error("writing", &self.folder, e))
    }

    fn next_file(&self) -> Result<ParquetWriter> {
        ParquetWriter::create(&segment(&self.folder, K::NAME, self.complete.len()), self.schema.clone())
    }
}
