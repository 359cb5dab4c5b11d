//! What can go wrong with a file, as data.

mod convert;

use std::io;
use std::path::PathBuf;

use arrow_schema::DataType;
use parquet::errors::ParquetError;
use safetensors::Dtype;

use self::convert::{human, quoted};
use crate::run::{Difference, RunStatus, list_differences};

/// A failure of this crate. Every message names the file and includes its cause, so print it as it is, without walking
/// `source()`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    // ---- the file system
    /// The device or the quota is full.
    #[error("writing {path}: no space left on device; free space or choose another output folder")]
    DiskFull {
        /// The file being written.
        path: PathBuf,
    },
    /// The file system refused access.
    #[error("{action} {path}: permission denied; check who owns it or choose another folder")]
    PermissionDenied {
        /// What was being done.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
    },
    /// The file or folder is not there.
    #[error("{action} {path}: not found")]
    NotFound {
        /// What was being done.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
    },
    /// Any other failure of the file system.
    #[error("{action} {path}: {source}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// [`require_space`](crate::require_space) found too little room.
    #[error("{path} needs {}, {} are free; free space or choose another output folder", human(needed), human(free))]
    NotEnoughSpace {
        /// The folder that was asked about.
        path: PathBuf,
        /// Bytes required.
        needed: u64,
        /// Bytes free.
        free: u64,
    },
    /// A file is not the JSON it should be, or a value cannot be written as JSON.
    #[error("{path}, line {line}, column {column}: {source}")]
    Json {
        /// The file.
        path: PathBuf,
        /// Line, from 1; 0 when writing.
        line: usize,
        /// Column, from 1; 0 when writing.
        column: usize,
        /// What the parser said.
        source: serde_json::Error,
    },

    // ---- run folders
    /// A folder has files but no manifest: it is not ours to fill or to empty.
    #[error("{path} is not empty and has no manifest.json of etymon; choose another output folder")]
    NotARunFolder {
        /// The folder.
        path: PathBuf,
    },
    /// A run folder of another command.
    #[error("{path} holds {found}, not {expected}; choose another folder")]
    WrongKind {
        /// The folder.
        path: PathBuf,
        /// The kind asked for.
        expected: String,
        /// The kind in the manifest.
        found: String,
    },
    /// The folder holds a run of another configuration or of other inputs.
    #[error(
        "{path} holds a run with other settings:\n{}use --overwrite to replace it, or choose another output folder",
        list_differences(differences)
    )]
    Mismatch {
        /// The folder.
        path: PathBuf,
        /// Every key that differs.
        differences: Vec<Difference>,
    },
    /// A run folder is read before its run is complete.
    #[error("the run in {path} is not complete (status {status}); run the command that makes it again to resume it")]
    NotComplete {
        /// The folder.
        path: PathBuf,
        /// What the manifest says.
        status: RunStatus,
    },
    /// A manifest of a format this version does not know.
    #[error("{path} has format version {found}, this etymon reads {supported}; update etymon or make the folder again")]
    FormatVersion {
        /// The manifest.
        path: PathBuf,
        /// The version found.
        found: u64,
        /// The version this crate reads and writes.
        supported: u64,
    },

    // ---- safetensors
    /// The file ends inside its header.
    #[error("{path} is truncated: its header needs {expected} bytes, the file has {got}")]
    HeaderTruncated {
        /// The file.
        path: PathBuf,
        /// Bytes up to the end of the header.
        expected: u64,
        /// Bytes in the file.
        got: u64,
    },
    /// The length of the header is not plausible.
    #[error("{path} is not a safetensors file: it claims a header of {bytes} bytes (a Git LFS pointer, perhaps?)")]
    HeaderTooLarge {
        /// The file.
        path: PathBuf,
        /// The claimed length of the header.
        bytes: u64,
    },
    /// The header is not a JSON object of the format.
    #[error("{path}: the safetensors header is corrupt: {source}")]
    HeaderJson {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// The header's entry of one tensor is not understood: an unknown dtype, a missing field.
    #[error("{path}: the header entry of tensor `{tensor}` is corrupt: {source}")]
    TensorEntry {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// Tensors overlap, leave a hole or run backwards.
    #[error(
        "{path}: tensor `{tensor}` is at bytes {begin}..{end}, it must start at {expected} where the one before ends"
    )]
    TensorOffsets {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its first byte in the data.
        begin: usize,
        /// The byte after its last.
        end: usize,
        /// Where it should begin.
        expected: usize,
    },
    /// The bytes of a tensor do not fit its dtype and shape.
    #[error("{path}: tensor `{tensor}` has {bytes} bytes, which does not fit {dtype} {shape:?}")]
    TensorSize {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its declared type.
        dtype: Dtype,
        /// Its declared shape.
        shape: Vec<usize>,
        /// The bytes its offsets give it.
        bytes: usize,
    },
    /// The file ends before its data does.
    #[error("{path} is truncated inside tensor `{tensor}`: expected {expected} bytes, the file has {got}")]
    DataTruncated {
        /// The file.
        path: PathBuf,
        /// The first tensor that is not whole.
        tensor: String,
        /// Bytes the header promises.
        expected: u64,
        /// Bytes in the file.
        got: u64,
    },
    /// The file goes on after its data.
    #[error("{path} is corrupt: expected {expected} bytes, the file has {got}")]
    TrailingBytes {
        /// The file.
        path: PathBuf,
        /// Bytes the header promises.
        expected: u64,
        /// Bytes in the file.
        got: u64,
    },
    /// No tensor of this name.
    #[error("{path} has no tensor `{tensor}`")]
    MissingTensor {
        /// The file or index.
        path: PathBuf,
        /// The tensor asked for.
        tensor: String,
    },
    /// A tensor's type cannot be read or written as asked.
    #[error("{path}: tensor `{tensor}` is {dtype}, which cannot be used as {wanted}")]
    TensorType {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its type in the file.
        dtype: Dtype,
        /// The Rust type of the caller.
        wanted: &'static str,
    },
    /// A range of elements outside a tensor.
    #[error("{path}: elements {start}..{end} of tensor `{tensor}`, which has {len}")]
    TensorRange {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// First element asked for.
        start: usize,
        /// The element after the last asked for.
        end: usize,
        /// Elements in the tensor.
        len: usize,
    },
    /// A folder without tensors.
    #[error("{folder} has neither model.safetensors nor model.safetensors.index.json")]
    NoTensors {
        /// The folder.
        folder: PathBuf,
    },
    /// An index names a file that is not there.
    #[error("{index} puts tensor `{tensor}` in {shard}, which is missing; download the model folder again")]
    MissingShard {
        /// The index file.
        index: PathBuf,
        /// The missing file.
        shard: PathBuf,
        /// The first tensor that should be in it.
        tensor: String,
    },
    /// A tensor is declared twice.
    #[error("{path}: tensor `{tensor}` is declared twice")]
    DuplicateTensor {
        /// The file being written.
        path: PathBuf,
        /// The tensor.
        tensor: String,
    },
    /// A tensor got more or fewer elements than declared.
    #[error("{path}: tensor `{tensor}` was declared with {declared} elements and given {written}")]
    TensorLength {
        /// The file being written.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Elements of the declared shape.
        declared: usize,
        /// Elements given.
        written: usize,
    },
    /// A finite value becomes infinite in the tensor's type.
    #[error("{path}: element {index} of tensor `{tensor}` is {value:e}, too large for {dtype}; choose a wider dtype")]
    TensorOverflow {
        /// The file being written.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The element.
        index: usize,
        /// Its value.
        value: f64,
        /// The type it does not fit.
        dtype: Dtype,
    },

    // ---- tables
    /// A parquet file cannot be read or written.
    #[error("{action} {path}: {source}")]
    Parquet {
        /// What was being done.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the parquet library said.
        source: ParquetError,
    },
    /// A column is missing or of another type.
    #[error("{path}: column `{column}` should be {expected}, found {}", found.as_ref().map_or("none".to_owned(), ToString::to_string))]
    Column {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// The type it should have.
        expected: &'static str,
        /// Its type, if there is such a column.
        found: Option<DataType>,
    },
    /// A column has a row without a value.
    #[error("{path}: column `{column}` has no value in {nulls} rows")]
    Null {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// Rows without, of those that were read together.
        nulls: usize,
    },
    /// A JSON column holds something else.
    #[error("{path}: column `{column}`: {source}")]
    ColumnJson {
        /// The file.
        path: PathBuf,
        /// The column.
        column: &'static str,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// A query id cannot name a column: it is empty, a name the table itself uses, or used twice.
    #[error("{path}: query id `{query}` cannot name a column: it is empty, given twice, or the table's own column")]
    QueryName {
        /// The folder of the table.
        path: PathBuf,
        /// The query id.
        query: String,
    },
    /// The parts of a block do not fit together.
    #[error("{path}: a block of {rows} rows and {queries} queries came with {column} of length {got}")]
    BlockShape {
        /// The folder of the table.
        path: PathBuf,
        /// Rows, by the number of train ids.
        rows: usize,
        /// Queries of the table.
        queries: usize,
        /// The part that does not fit.
        column: &'static str,
        /// Its length.
        got: usize,
    },
    /// A folder without the table.
    #[error("{folder} has no {name}-*.parquet")]
    NoTable {
        /// The folder.
        folder: PathBuf,
        /// The table.
        name: &'static str,
    },
    /// A file of a table is gone, though later ones are there or the run's progress counts on it.
    #[error("{path} is missing from its table; make the folder again with --overwrite")]
    MissingSegment {
        /// The missing file.
        path: PathBuf,
    },
    /// A table is continued with other columns, or its files disagree.
    #[error("{path}: query column {query} is {}, expected {}", quoted(found), quoted(expected))]
    TableColumns {
        /// The file.
        path: PathBuf,
        /// The first query column that differs, from 0.
        query: usize,
        /// The query id expected there, if any.
        expected: Option<String>,
        /// The query id found there, if any.
        found: Option<String>,
    },
    /// A table has no such query.
    #[error("{path} has no query `{query}`")]
    MissingQuery {
        /// The folder of the table.
        path: PathBuf,
        /// The query asked for.
        query: String,
    },
}

/// The result of this crate's functions.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;
