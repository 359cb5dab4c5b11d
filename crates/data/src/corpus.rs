//! A data set: its files, and how they are read.

use std::path::PathBuf;
use std::sync::Arc;

use crate::rows::{RowOptions, check_files};
use crate::{CorpusOptions, DataError, DataFile, Encoder, Example, ExampleIndex, Examples, Packing, Result, files};

/// An opened data set. Nothing of it is held in memory; each pass over it reads the files again.
#[derive(Clone, Debug)]
pub struct Corpus {
    pub(crate) files: Arc<[DataFile]>,
    pub(crate) encoder: Option<Encoder>,
    pub(crate) options: Arc<CorpusOptions>,
}

impl Corpus {
    /// Opens files, and directories for the data files in them (in the order of their names). Every file is opened and
    /// its header read. Text needs an `encoder`.
    ///
    /// # Errors
    /// If a file cannot be read or has an unknown format, if no file has a row, or if the options contradict each other.
    pub fn open(paths: &[PathBuf], encoder: Option<Encoder>, options: CorpusOptions) -> Result<Self> {
        let least = options.least_max_tokens();
        if options.max_tokens < least {
            return Err(DataError::MaxTokens { max_tokens: options.max_tokens, least });
        }
        let files: Arc<[DataFile]> = files::expand(paths, options.format)?.into();
        let corpus = Self { files, encoder, options: Arc::new(options) };
        if check_files(&corpus.files, &corpus.row_options())? {
            Ok(corpus)
        } else {
            Err(DataError::Empty { what: corpus.name(), rows_read: 0, skipped: 0 })
        }
    }

    /// The examples in order, read as they are asked for.
    pub fn examples(&self) -> Examples {
        self.examples_from(ExampleIndex(0))
    }

    /// The examples from index `first` on, the same ones with the same indices as [`Corpus::examples`] gives. Rows
    /// before `first` are neither parsed nor tokenized where that leaves the indices unchanged (no packing, no skipping
    /// of bad rows); they are then not checked either, nor are their ids.
    pub fn examples_from(&self, first: ExampleIndex) -> Examples {
        Examples::new(self.clone(), first)
    }

    /// All examples in memory: for queries and small data sets.
    ///
    /// # Errors
    /// The first error of the reading.
    pub fn read_all(&self) -> Result<Vec<Example>> {
        self.examples().collect()
    }

    /// The files, in the order in which they are read.
    pub fn files(&self) -> &[DataFile] {
        &self.files
    }

    /// The tokenizer.
    pub fn encoder(&self) -> Option<&Encoder> {
        self.encoder.as_ref()
    }

    /// How the files are read.
    pub fn options(&self) -> &CorpusOptions {
        &self.options
    }

    pub(crate) fn row_options(&self) -> RowOptions {
        RowOptions { corpus: Arc::clone(&self.options), has_encoder: self.encoder.is_some() }
    }

    /// Whether the rows of the corpus and its examples are one to one.
    pub(crate) fn rows_are_examples(&self) -> bool {
        self.options.packing == Packing::None && self.options.bad_rows == crate::BadRows::Fail
    }

    /// The first file, for messages about all of them.
    pub(crate) fn name(&self) -> String {
        match &*self.files {
            [] => "no file".to_owned(),
            [file] => file.path.display().to_string(),
            [file, rest @ ..] => format!("{} and {} more", file.path.display(), rest.len()),
        }
    }
}
