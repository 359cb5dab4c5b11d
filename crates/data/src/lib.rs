//! Data sets: files in, checked examples out, stacked batches for the model.
//!
//! A [`Corpus`] is a list of files that are read as a stream, one [`Example`] per row; [`Batches`] groups examples and
//! [`Batch::stack`] lays them out for a model. [`Windows`] groups them into stretches that are divided into batches of
//! similar lengths, and [`Prefetch`] makes them on a thread of its own. An [`Encoder`] turns text into token ids. A [`CandidateFilter`] picks the
//! train examples worth scoring; [`Lexical`] scores them by the tokens that they share with queries. Nothing here writes a file, and memory does not grow with the size of the data set
//! (apart from one hash per row that has an `id` of its own).

mod batch;
mod bpe;
mod corpus;
mod encoder;
mod error;
mod example;
mod examples;
mod files;
mod filter;
mod ids;
mod lexical;
mod options;
mod pack;
mod prefetch;
mod rows;
mod schema;
mod spread;
mod windows;

pub use batch::{Batch, BatchLimits, Batches, Input, Padding, RowRange};
pub use bpe::{END_OF_TEXT, train_bpe};
pub use corpus::Corpus;
pub use encoder::Encoder;
pub use error::{DataError, IdxProblem, Place, RowProblem};
pub use example::{Content, Example, ExampleIndex, Target};
pub use examples::{Counts, Examples};
pub use files::DataFile;
pub use filter::{Candidate, CandidateFilter, union_of};
pub use lexical::{Lexical, LexicalFormula};
pub use options::{BadRows, CorpusOptions, Format, Overlong, Packing, Task};
pub use prefetch::Prefetch;
pub use rows::{TableRow, TableRows, is_table, labels_of, read_table};
pub use spread::Spread;
pub use windows::{Window, WindowBatch, WindowSize, Windows};

/// The result of every fallible operation of this crate.
pub type Result<T> = std::result::Result<T, DataError>;
