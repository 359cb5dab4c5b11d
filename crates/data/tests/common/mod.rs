//! What the tests share: a folder of data files, and a tokenizer that has one token per byte.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]
#![allow(dead_code)]

use std::io::Write;
use std::path::{Path, PathBuf};

use etymon_data::{Content, Corpus, CorpusOptions, DataError, Encoder, Example, ExampleIndex, train_bpe};

/// Rows of the reference language model, as files hold them.
pub const LM_TRAIN: &str = include_str!("lm_train.jsonl");
/// Its queries.
pub const LM_QUERY: &str = include_str!("lm_query.jsonl");

/// A folder that is deleted after the test.
pub struct Folder(tempfile::TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

pub fn gzip(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes.as_ref()).unwrap();
    encoder.finish().unwrap()
}

pub fn zstd(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    zstd::encode_all(bytes.as_ref(), 3).unwrap()
}

/// One token per byte.
pub fn bytes_encoder() -> Encoder {
    train_bpe(std::iter::empty::<&str>(), 257, &[]).unwrap()
}

pub fn open(paths: &[PathBuf], encoder: Option<Encoder>, options: CorpusOptions) -> Result<Corpus, DataError> {
    Corpus::open(paths, encoder, options)
}

/// The examples of one file with the tokenizer of bytes.
pub fn read(path: &Path, options: CorpusOptions) -> Result<Vec<Example>, DataError> {
    Corpus::open(&[path.to_path_buf()], Some(bytes_encoder()), options)?.read_all()
}

/// The examples of a jsonl text with the tokenizer of bytes.
pub fn read_jsonl(text: &str, options: CorpusOptions) -> Result<Vec<Example>, DataError> {
    let folder = Folder::new();
    read(&folder.write("data.jsonl", text), options)
}

/// The message of a failure, with the folder left out.
pub fn message<T>(result: Result<T, DataError>) -> String {
    let message = result.err().expect("a failure").to_string();
    message.rsplit('/').next().unwrap().to_owned()
}

pub fn tokens(index: u64, ids: &[u32], loss_start: usize) -> Example {
    let content = Content::Tokens { ids: ids.to_vec(), loss_start };
    Example {
        index: ExampleIndex(index),
        id: index.to_string(),
        content,
        text: String::new(),
        metadata: serde_json::Map::new(),
    }
}
