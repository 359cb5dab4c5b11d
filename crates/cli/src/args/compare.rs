//! Arguments of `etymon compare`.

use std::path::PathBuf;

use clap::Args;

use super::positive;

/// `etymon compare`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  etymon compare S-ekfac S-bm25                  two score tables in the terminal
  etymon compare S -o compare.html               all score tables in the sub-folders of S, as a page")]
pub struct CompareArgs {
    /// Folders of `etymon score` over the same rows and queries, or a folder of such folders
    #[arg(required = true, num_args = 1.., value_name = "FOLDER")]
    pub scores: Vec<PathBuf>,
    /// Overlap of this many of the highest scores
    #[arg(long, value_name = "K", default_value_t = 20, value_parser = positive())]
    pub top: usize,
    /// Texts of each table to show
    #[arg(short, default_value_t = 5)]
    pub k: usize,
    /// Only this query (repeatable)
    #[arg(long, value_name = "ID")]
    pub query: Vec<String>,
    /// Write one HTML file
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Heading of the page
    #[arg(long, default_value = "Comparison")]
    pub title: String,
}
