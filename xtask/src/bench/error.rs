//! What can go wrong in a bench.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Result of a step of the bench.
pub type Result<T> = std::result::Result<T, BenchError>;

/// Why a bench stopped.
#[derive(Debug)]
pub enum BenchError {
    /// A word of the command line.
    Option {
        /// The word.
        word: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A file or folder.
    Io {
        /// Its path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A program that cannot be started.
    Start {
        /// The program.
        program: String,
        /// The cause.
        source: io::Error,
    },
    /// A program that ended with an error.
    Failed {
        /// The program.
        program: String,
        /// Exit code or signal.
        status: String,
        /// The end of what it said.
        said: String,
    },
    /// A program whose last line is not the JSON object that it should be.
    Answer {
        /// The program.
        program: String,
        /// What is missing or wrong.
        problem: String,
    },
    /// A document without the two lines between which its table goes.
    Markers {
        /// The document.
        path: PathBuf,
        /// The first of the two lines.
        begin: String,
    },
}

impl BenchError {
    /// An error of a file.
    pub fn io(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }
}

impl fmt::Display for BenchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Option { word, problem } => write!(f, "`{word}`: {problem}"),
            Self::Io { path, source } => write!(f, "{}: {source}", path.display()),
            Self::Start { program, source } => write!(f, "cannot start {program}: {source}"),
            Self::Failed { program, status, said } => write!(f, "{program} ended with {status}:\n{said}"),
            Self::Answer { program, problem } => write!(f, "the answer of {program}: {problem}"),
            Self::Markers { path, begin } => write!(f, "{}: no line `{begin}` with its end after it", path.display()),
        }
    }
}

impl std::error::Error for BenchError {}
