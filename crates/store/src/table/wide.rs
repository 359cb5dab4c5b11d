//! Reading score tables: key columns, then one float column per query.

use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use arrow_array::types::Float32Type;
use arrow_schema::DataType;

use super::columns::Columns;
use super::parquet_file::{batches, describe};
use super::segments::segments;
use super::wide_keys::{Batch, ByExample, ByLayer, ByToken, RowKeys};
use crate::error::{Result, StoreError};

/// Rows read at a time where the caller does not say.
const BATCH: usize = 1 << 14;

/// Reads `scores-*.parquet`.
pub type ScoreTable = WideTable<ByExample>;
/// Reads `layers-*.parquet`.
pub type LayerTable = WideTable<ByLayer>;
/// Reads `tokens-*.parquet`.
pub type TokenTable = WideTable<ByToken>;

/// A score table on the disk.
#[derive(Debug, Clone)]
pub struct WideTable<K> {
    folder: PathBuf,
    files: Vec<PathBuf>,
    queries: Vec<String>,
    n_rows: u64,
    keys: PhantomData<K>,
}

/// Some rows of a score table.
#[derive(Debug, Clone, PartialEq)]
pub struct Block<K> {
    /// What the rows are about.
    pub keys: K,
    /// `[rows, queries]` The scores, row-major.
    pub scores: Vec<f32>,
}

impl<K: RowKeys> WideTable<K> {
    /// Opens the table in `folder`.
    ///
    /// # Errors
    /// When there is none, a file of it is missing or corrupt, or the files have different columns.
    pub fn open(folder: &Path) -> Result<Self> {
        let files = segments(folder, K::NAME)?;
        let Some(first) = files.first() else {
            return Err(StoreError::NoTable { folder: folder.to_owned(), name: K::NAME });
        };
        let (queries, _) = query_columns::<K>(first)?;
        let mut n_rows = 0;
        for file in &files {
            n_rows += check_file::<K>(file, &queries)?;
        }
        Ok(Self { folder: folder.to_owned(), files, queries, n_rows, keys: PhantomData })
    }

    /// The query ids, in the order of their columns.
    pub fn queries(&self) -> &[String] {
        &self.queries
    }

    /// The number of rows.
    pub fn n_rows(&self) -> u64 {
        self.n_rows
    }

    /// The rows in order, at most `rows` at a time.
    pub fn blocks(&self, rows: usize) -> impl Iterator<Item = Result<Block<K>>> {
        self.batches(rows, None, |columns| {
            let n = columns.batch.num_rows();
            let mut scores = vec![0.0; n * self.queries.len()];
            for (q, query) in self.queries.iter().enumerate() {
                let column = columns.array::<Float32Type>(query)?.values();
                for (to, from) in scores.iter_mut().skip(q).step_by(self.queries.len()).zip(column) {
                    *to = *from;
                }
            }
            Ok(Block { keys: K::read(&Batch(columns))?, scores })
        })
    }

    /// `[n_rows]` The scores of one query.
    ///
    /// # Errors
    /// When there is no such query, or a file cannot be read.
    pub fn column(&self, query: &str) -> Result<Vec<f32>> {
        if !self.queries.iter().any(|q| q == query) {
            return Err(StoreError::MissingQuery { path: self.folder.clone(), query: query.to_owned() });
        }
        let parts = self.batches(BATCH, Some(query), |columns| columns.numbers::<Float32Type>(query));
        Ok(parts.collect::<Result<Vec<_>>>()?.concat())
    }

    /// `[n_rows]` The train examples.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn train_ids(&self) -> Result<Vec<String>> {
        let parts = self.batches(BATCH, Some("train_id"), |columns| columns.strings("train_id"));
        Ok(parts.collect::<Result<Vec<_>>>()?.concat())
    }

    fn batches<'a, T>(
        &'a self,
        rows: usize,
        column: Option<&'a str>,
        read: impl Fn(Columns<'_>) -> Result<T> + Copy + 'a,
    ) -> impl Iterator<Item = Result<T>> {
        self.files.iter().flat_map(move |path| {
            let (batches, error) = match batches(path, rows, column) {
                Ok(batches) => (Some(batches), None),
                Err(error) => (None, Some(Err(error))),
            };
            let read = move |batch: Result<_>| read(Columns { path, batch: &batch? });
            batches.into_iter().flatten().map(read).chain(error)
        })
    }
}

/// Checks that a file is of table `K` with these queries; gives its number of rows.
pub(super) fn check_file<K: RowKeys>(path: &Path, expected: &[String]) -> Result<u64> {
    let (found, rows) = query_columns::<K>(path)?;
    match (0..found.len().max(expected.len())).find(|&i| found.get(i) != expected.get(i)) {
        None => Ok(rows),
        Some(query) => Err(StoreError::TableColumns {
            path: path.to_owned(),
            query,
            expected: expected.get(query).cloned(),
            found: found.get(query).cloned(),
        }),
    }
}

/// The query columns of a file of table `K`, and its number of rows.
fn query_columns<K: RowKeys>(path: &Path) -> Result<(Vec<String>, u64)> {
    let (schema, rows) = describe(path)?;
    let wrong = |column: &str, expected, found: Option<&DataType>| {
        let (path, column) = (path.to_owned(), column.to_owned());
        Err(StoreError::Column { path, column, expected, found: found.cloned() })
    };
    let keys = K::fields();
    for (i, key) in keys.iter().enumerate() {
        let found = schema.fields().get(i);
        if !found.is_some_and(|f| f.name() == key.name() && f.data_type() == key.data_type()) {
            return wrong(key.name(), "a key column", found.map(|f| f.data_type()));
        }
    }
    let queries = schema.fields().iter().skip(keys.len());
    if let Some(query) = queries.clone().find(|f| f.data_type() != &DataType::Float32) {
        return wrong(query.name(), "float", Some(query.data_type()));
    }
    Ok((queries.map(|f| f.name().clone()).collect(), rows))
}
