//! What can be wrong with a data set.

use std::path::PathBuf;

/// A row of a file, displayed as `file:line`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// File as it was named.
    pub file: PathBuf,
    /// Line, from 1; the row number from 1 in a parquet file.
    pub line: u64,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

/// What is wrong with one row. `BadRows::Skip` skips and counts these, and nothing else.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RowProblem {
    /// Not a JSON object.
    #[error("not a JSON object: {0}")]
    Json(#[from] serde_json::Error),
    /// Bytes that are not UTF-8.
    #[error("not UTF-8 text")]
    Utf8,
    /// No column that a model could read.
    #[error(
        "none of `input_ids`, `features`, `prompt` + `completion` or `text` is there{}",
        if .columns.is_empty() { String::new() } else { format!(" (columns: {})", .columns.join(", ")) }
    )]
    NoContent {
        /// Columns of the row.
        columns: Vec<String>,
    },
    /// A column without the one that belongs to it.
    #[error("`{column}` without {needs}")]
    Alone {
        /// Column that is there.
        column: &'static str,
        /// What is missing.
        needs: &'static str,
    },
    /// A value of the wrong type.
    #[error("`{column}` should be {expected}, got {got}")]
    Type {
        /// Column, with the position in a list.
        column: String,
        /// What it should be.
        expected: &'static str,
        /// The value, shortened.
        got: String,
    },
    /// A table without a column.
    #[error("there is no column `{column}`, there are {known}")]
    NoColumn {
        /// The column.
        column: String,
        /// Those that there are.
        known: String,
    },
    /// A column without a value.
    #[error("`{column}` is empty, or not finite")]
    NoValue {
        /// The column.
        column: String,
    },
    /// NaN, infinity, or a number beyond f32.
    #[error("`{column}` is not a finite number")]
    NotFinite {
        /// Column, with the position in a list.
        column: String,
    },
    /// A sequence of which nothing is predicted.
    #[error("{n_tokens} tokens: at least 2 are needed")]
    TooShort {
        /// Tokens.
        n_tokens: usize,
    },
    /// The completion starts outside of the sequence.
    #[error(
        "the completion starts at token {start} of {n_tokens} (at most {max_tokens} are kept); expected 1..{n_tokens}"
    )]
    CompletionStart {
        /// First token of the completion.
        start: usize,
        /// Tokens of the sequence, after truncation.
        n_tokens: usize,
        /// Most tokens that are kept.
        max_tokens: usize,
    },
    /// Too many tokens, and `Overlong::Fail`.
    #[error("{n_tokens} tokens, more than {max_tokens}")]
    Overlong {
        /// Tokens.
        n_tokens: usize,
        /// Most tokens allowed.
        max_tokens: usize,
    },
    /// A row of features of another width than the first one.
    #[error("{got} features, the first row has {expected}")]
    FeatureCount {
        /// Features of the first row.
        expected: usize,
        /// Features of this row.
        got: usize,
    },
    /// A CSV record with another number of fields than the first one.
    #[error("{got} fields, expected {expected}")]
    FieldCount {
        /// Fields of the header.
        expected: usize,
        /// Fields of this record.
        got: usize,
    },
    /// The tokenizer refused the text.
    #[error("cannot be tokenized: {0}")]
    Encode(#[source] tokenizers::Error),
}

/// What is wrong with an idx file.
#[derive(Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum IdxProblem {
    /// Not the first bytes of the format.
    #[error(
        "not an idx file: it begins with {got:02x?}; expected 00 00, a type from 08 to 0e and the number of dimensions"
    )]
    Magic {
        /// The first bytes.
        got: [u8; 4],
    },
    /// A file that ends within its header.
    #[error("ends within its header")]
    Header,
    /// Dimensions that no image has.
    #[error("has dimensions {shape:?}")]
    Shape {
        /// The dimensions.
        shape: Vec<usize>,
    },
    /// Fewer entries than the header says.
    #[error("ends within entry {at} of the {n} that its header promises")]
    TooShort {
        /// The entry, from 1.
        at: usize,
        /// Entries of the header.
        n: usize,
    },
    /// More bytes than the header says.
    #[error("goes on after the {n} entries that its header promises")]
    TooLong {
        /// Entries of the header.
        n: usize,
    },
    /// A name that does not say where the labels are.
    #[error(
        "name the file of images, such as train-images-idx3-ubyte; its labels are read from train-labels-idx1-ubyte"
    )]
    Name,
    /// Images without labels.
    #[error("there are no labels: no file {}", expected.display())]
    NoLabels {
        /// Where they should be.
        expected: PathBuf,
    },
    /// Another number of labels than of images.
    #[error("{labels} labels for {images} images")]
    LabelCount {
        /// Labels.
        labels: usize,
        /// Images.
        images: usize,
    },
    /// Labels that are no list.
    #[error("labels have one dimension, these have {got}")]
    LabelDimensions {
        /// Dimensions.
        got: usize,
    },
    /// A label that is no class.
    #[error("label {at} is {label}; expected a class (0, 1, 2 …)")]
    Label {
        /// Its place, from 1.
        at: usize,
        /// The label.
        label: f64,
    },
}

/// What can be wrong with a data set, a tokenizer or a batch.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// A file or directory cannot be read.
    #[error("{file}: cannot be read: {source}", file = .file.display())]
    Read {
        /// File.
        file: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// The ending of a file name says nothing about its format.
    #[error("{file}: unknown data format; name it with --format jsonl|csv|text|parquet|idx", file = .file.display())]
    UnknownFormat {
        /// File.
        file: PathBuf,
    },
    /// A file that is no table of named columns.
    #[error("{file}: not a table; expected a name that ends in .jsonl, .csv or .parquet (also .gz and .zst)", file = .file.display())]
    NoTable {
        /// File.
        file: PathBuf,
    },
    /// An idx file is broken.
    #[error("{file}: {problem}", file = .file.display())]
    Idx {
        /// File.
        file: PathBuf,
        /// What is wrong.
        #[source]
        problem: IdxProblem,
    },
    /// A directory without data files.
    #[error("{directory}: no data file (.jsonl, .csv, .txt, .parquet, images-idx3-ubyte, also .gz and .zst)", directory = .directory.display())]
    NoFiles {
        /// Directory.
        directory: PathBuf,
    },
    /// A directory with data files of several formats.
    #[error("{directory}: data files of several formats ({formats}); choose one with --format", directory = .directory.display())]
    MixedFormats {
        /// Directory.
        directory: PathBuf,
        /// The formats found.
        formats: String,
    },
    /// No row, or only bad ones.
    #[error("{what}: the data set is empty ({rows_read} rows read, {skipped} of them bad)")]
    Empty {
        /// The files.
        what: String,
        /// Rows read.
        rows_read: u64,
        /// Bad rows skipped.
        skipped: u64,
    },
    /// A bad row, and `BadRows::Fail`.
    #[error("{place}: {problem}")]
    Row {
        /// Where.
        place: Place,
        /// What is wrong.
        #[source]
        problem: RowProblem,
    },
    /// A bad row of a table that is no data set.
    #[error("{place}: {problem}")]
    TableRow {
        /// Where.
        place: Place,
        /// What is wrong.
        #[source]
        problem: RowProblem,
    },
    /// Two rows with the same id.
    #[error("{second}: id `{id}` is already taken by {first}")]
    DuplicateId {
        /// The id.
        id: String,
        /// The earlier row.
        first: Place,
        /// The later row.
        second: Place,
    },
    /// A token id that the model does not have.
    #[error("{place}: vocabulary mismatch: token id {token}, but the model has ids 0..{vocab}")]
    VocabularyMismatch {
        /// Where.
        place: Place,
        /// Largest token id of the row.
        token: u32,
        /// Size of the vocabulary.
        vocab: usize,
    },
    /// Text, but no tokenizer.
    #[error("{place}: `{column}` has to be tokenized, but there is no tokenizer")]
    NoTokenizer {
        /// Where.
        place: Place,
        /// Column with text.
        column: &'static str,
    },
    /// A parquet file is broken.
    #[error("{file}: {source}", file = .file.display())]
    Parquet {
        /// File.
        file: PathBuf,
        /// Cause.
        source: parquet::errors::ParquetError,
    },
    /// A column of the row schema has a parquet type that cannot be read.
    #[error("{file}: column `{column}` has type {got}, which cannot be read", file = .file.display())]
    ColumnType {
        /// File.
        file: PathBuf,
        /// Column.
        column: String,
        /// Its type.
        got: String,
    },
    /// A CSV file is broken.
    #[error("{file}: {source}", file = .file.display())]
    Csv {
        /// File.
        file: PathBuf,
        /// Cause.
        source: csv::Error,
    },
    /// The label column is not there.
    #[error("{file}: no numeric column `{label}` for --label (numeric columns: {columns})", file = .file.display())]
    LabelColumn {
        /// File.
        file: PathBuf,
        /// Column asked for.
        label: String,
        /// Numeric columns.
        columns: String,
    },
    /// A CSV file with fewer than two numeric columns.
    #[error("{file}: a feature and a label column are needed, numeric columns: {columns}", file = .file.display())]
    NoFeatures {
        /// File.
        file: PathBuf,
        /// Numeric columns.
        columns: String,
    },
    /// Packing was asked for rows that cannot be packed.
    #[error("{place}: {what} cannot be packed; only rows that are predicted from the second token on can")]
    Unpackable {
        /// Where.
        place: Place,
        /// What kind of row.
        what: &'static str,
    },
    /// Too few tokens per example.
    #[error("max_tokens is {max_tokens}, at least {least} are needed")]
    MaxTokens {
        /// Value given.
        max_tokens: usize,
        /// Least value.
        least: usize,
    },
    /// A tokenizer cannot be loaded.
    #[error("{what}: not a tokenizer: {source}")]
    Tokenizer {
        /// File, or where the tokenizer came from.
        what: String,
        /// Cause.
        source: tokenizers::Error,
    },
    /// Token ids that cannot be decoded.
    #[error("token ids cannot be decoded: {source}")]
    Decode {
        /// Cause.
        source: tokenizers::Error,
    },
    /// A text cannot be encoded.
    #[error("text cannot be tokenized: {source}")]
    Encode {
        /// Cause.
        source: tokenizers::Error,
    },
    /// Training a tokenizer failed.
    #[error("the tokenizer cannot be trained: {source}")]
    TrainTokenizer {
        /// Cause.
        source: tokenizers::Error,
    },
    /// A vocabulary that does not hold all bytes and special tokens.
    #[error("a vocabulary of {vocab_size} is too small: {least} ids are needed for the bytes and special tokens")]
    VocabularySize {
        /// Size asked for.
        vocab_size: usize,
        /// Least size.
        least: usize,
    },
    /// A batch of nothing.
    #[error("a batch needs at least one example")]
    EmptyBatch,
    /// Tokens and features in one batch.
    #[error("example `{id}`: tokens and features cannot be in one batch")]
    MixedBatch {
        /// First example of the other kind.
        id: String,
    },
    /// A sequence of which nothing is predicted.
    #[error("example `{id}`: predictions start at token {loss_start} of {n_tokens}")]
    LossStart {
        /// Example.
        id: String,
        /// First predicted token.
        loss_start: usize,
        /// Tokens.
        n_tokens: usize,
    },
    /// A sequence longer than the padding.
    #[error("example `{id}`: {rows} rows do not fit into a padding of {padding}")]
    Padding {
        /// Example.
        id: String,
        /// Rows of the example.
        rows: usize,
        /// Rows asked for.
        padding: usize,
    },
    /// Rows of different widths in one batch.
    #[error("example `{id}`: {got} features, the first of the batch has {expected}")]
    FeatureCount {
        /// Example.
        id: String,
        /// Features of the first example.
        expected: usize,
        /// Features of this example.
        got: usize,
    },
    /// What compares tokens (TF-IDF, BM25) has none.
    #[error("example `{id}` is a row of features: TF-IDF and BM25 compare the tokens of texts")]
    NotTokens {
        /// Example.
        id: String,
    },
    /// The system gave no thread to read on.
    #[error("no thread to read on: {source}")]
    Thread {
        /// Cause.
        source: std::io::Error,
    },
    /// The reading thread panicked: a defect of this program or of a library.
    #[error("reading panicked: {message}; please report this")]
    Panic {
        /// What the panic said.
        message: String,
    },
}
