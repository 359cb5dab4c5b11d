//! The choices with which a corpus is read.

/// The format of a data file. Compression with gzip or zstd is recognised by the content.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Format {
    /// One JSON object per line.
    Jsonl,
    /// Comma-separated values with a header (a first line of numbers alone is data; columns are then `x0`, `x1` …).
    Csv,
    /// One example per line.
    Text,
    /// An array of images, `…-images-idx3-ubyte` as of MNIST, with the labels in `…-labels-idx1-ubyte` beside it. Bytes
    /// become numbers from 0 to 1, numbers of other types stay.
    Idx,
    /// Parquet, with the columns that a JSON object has.
    Parquet,
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 5] = [Self::Jsonl, Self::Csv, Self::Text, Self::Parquet, Self::Idx];

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Jsonl => "jsonl",
            Self::Csv => "csv",
            Self::Text => "text",
            Self::Parquet => "parquet",
            Self::Idx => "idx",
        }
    }

    /// The format with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }
}

/// What becomes of a sequence of more than `max_tokens` tokens.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Overlong {
    /// Its end is cut off, and counted.
    Truncate,
    /// It is a bad row.
    Fail,
}

/// Whether rows are joined into sequences of equal length.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Packing {
    /// One example per row.
    None,
    /// The rows are one stream of tokens, cut every `max_tokens`; nothing is lost or repeated. (Where a single token
    /// would remain at the end, the pack before gives one away.) Only for rows that are predicted from the second token
    /// on; no row is overlong. Tokens of a pack see those of the documents before it.
    Pack {
        /// Token after each row.
        eos: Option<u32>,
    },
}

/// What becomes of a row that cannot be used. Duplicate ids, a vocabulary mismatch and unreadable files end the reading
/// in either case.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum BadRows {
    /// The reading ends with an error that names file and line.
    Fail,
    /// It is left out and counted.
    Skip,
}

/// What the label of a row of features is.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Task {
    /// A class, counted from 0.
    Classification,
    /// One or more numbers.
    Regression,
}

/// How a corpus is read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CorpusOptions {
    /// Format of all files. Default: by the ending of each file name.
    pub format: Option<Format>,
    /// Most tokens of an example, at least 2 (3 with packing). Default: no limit.
    pub max_tokens: usize,
    /// What becomes of longer sequences. Default: truncated.
    pub overlong: Overlong,
    /// Whether rows are joined. Default: no.
    pub packing: Packing,
    /// What becomes of bad rows. Default: an error.
    pub bad_rows: BadRows,
    /// Name of the label column of rows of features. Default: `label` or `target`; in CSV the last numeric column.
    pub label: Option<String>,
    /// What a label is. Default: `label` is a class and `target` a number; in CSV a class if the labels of the first 64
    /// rows of the file are whole numbers from 0 on.
    pub task: Option<Task>,
    /// Size of the model's vocabulary; every token id must be below. Default: not checked.
    pub vocab: Option<usize>,
}

impl Default for CorpusOptions {
    fn default() -> Self {
        Self {
            format: None,
            max_tokens: usize::MAX,
            overlong: Overlong::Truncate,
            packing: Packing::None,
            bad_rows: BadRows::Fail,
            label: None,
            task: None,
            vocab: None,
        }
    }
}

impl CorpusOptions {
    /// The least `max_tokens` with which every example has something to predict.
    pub(crate) const fn least_max_tokens(&self) -> usize {
        match self.packing {
            Packing::None => 2,
            Packing::Pack { .. } => 3,
        }
    }
}
