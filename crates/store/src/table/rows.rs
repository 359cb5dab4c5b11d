//! Tables of Rust structs.

use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{Field, Schema};

use super::columns::Columns;
use super::parquet_file::{ParquetWriter, arrow_error, batches};
use crate::error::Result;

/// Rows converted at a time: few, as the text of a batch must stay below 2 GiB.
const BATCH: usize = 1 << 10;

/// A struct that is the row of a table.
pub(super) trait Row: Sized {
    fn fields() -> Vec<Field>;

    /// The columns of some rows, in the order of [`fields`](Self::fields).
    fn columns(rows: &[Self]) -> Vec<ArrayRef>;

    fn from_columns(columns: &Columns<'_>) -> Result<Vec<Self>>;
}

/// Writes a table of its own file.
pub(super) fn write_rows<R: Row>(path: &Path, rows: &[R]) -> Result<()> {
    let schema = Arc::new(Schema::new(R::fields()));
    let mut file = ParquetWriter::create(path, schema.clone())?;
    for chunk in rows.chunks(BATCH) {
        let batch = RecordBatch::try_new(schema.clone(), R::columns(chunk));
        file.write(&batch.map_err(|e| arrow_error("writing", path, e))?)?;
    }
    file.finish()
}

/// Reads a table of one file.
pub(super) fn read_rows<R: Row>(path: &Path) -> Result<Vec<R>> {
    let mut rows = Vec::new();
    for batch in batches(path, BATCH, None)? {
        rows.append(&mut R::from_columns(&Columns { path, batch: &batch? })?);
    }
    Ok(rows)
}
