//! The command line of `cargo xtask bench peers`.

use std::path::PathBuf;
use std::str::FromStr;

use super::cases::{Case, Precision, Tool};
use super::{BenchError, Result};

/// Usage.
pub const USAGE: &str = "\
cargo xtask bench peers [OPTIONS]    etymon beside kronfluence, bergson and dattri; writes BENCHMARKS.md
    --smoke              a few rows of model S, one round
    --render             no runs: the tables and the plot from the results of the last bench
    --publish            write into the repository even when the bench was not of everything; without it a smoke run, or one
                         of chosen cases, tools or precisions, writes into target/peers
    --repeats N          rounds [default: 3]; all runs of a round alternate
    --cases S,M0,M       models and layers (M0: only block 0 of M is tapped) [default: all]
    --tools NAME,…       etymon, kronfluence, bergson, dattri [default: all]
    --precisions f32,bf16x3,bf16   [default: f32 and bf16; bf16x3, which only etymon has, where the processor has AMX]
    --threads N          threads of every tool [default: all cores]
    --etymon PATH        a binary of etymon, instead of building one";

/// The options.
pub struct Options {
    /// Few rows, one round.
    pub smoke: bool,
    /// Whether a bench of a part is written into the repository.
    pub publish: bool,
    /// Whether all cases, tools and precisions are run, at their full size.
    pub complete: bool,
    /// No runs.
    pub render: bool,
    /// Rounds.
    pub repeats: usize,
    /// Models and layers.
    pub cases: Vec<&'static Case>,
    /// Tools.
    pub tools: Vec<Tool>,
    /// Precisions.
    pub precisions: Vec<Precision>,
    /// Threads of every tool.
    pub threads: usize,
    /// A binary of etymon.
    pub etymon: Option<PathBuf>,
}

impl Options {
    /// Reads the words after `bench`.
    ///
    /// # Errors
    /// An unknown word, or a value that does not fit.
    pub fn parse(args: &[String]) -> Result<Self> {
        let mut words = args.iter();
        match words.next().map(String::as_str) {
            Some("peers") => {}
            other => return Err(wrong(other.unwrap_or("bench"), "the only bench here is `peers`")),
        }
        let mut options = Self {
            smoke: false,
            publish: false,
            complete: false,
            render: false,
            repeats: 0,
            cases: Vec::new(),
            tools: Vec::new(),
            precisions: Vec::new(),
            threads: std::thread::available_parallelism().map_or(1, Into::into),
            etymon: None,
        };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| wrong(word, "needs a value"));
            match word.as_str() {
                "--smoke" => options.smoke = true,
                "--publish" => options.publish = true,
                "--render" => options.render = true,
                "--repeats" => options.repeats = number(value()?)?,
                "--cases" => options.cases = list(value()?, Case::named, "is no case: S, M0 or M")?,
                "--tools" => options.tools = list(value()?, Tool::named, "is no tool of this bench")?,
                "--precisions" => options.precisions = list(value()?, Precision::named, "is no precision")?,
                "--threads" => options.threads = number(value()?)?,
                "--etymon" => options.etymon = Some(PathBuf::from(value()?)),
                _ => return Err(wrong(word, "is no option of this bench")),
            }
        }
        options.defaults();
        Ok(options)
    }

    fn defaults(&mut self) {
        self.complete = !self.smoke && self.cases.is_empty() && self.tools.is_empty() && self.precisions.is_empty();
        if self.repeats == 0 {
            self.repeats = if self.smoke { 1 } else { 3 };
        }
        if self.cases.is_empty() {
            self.cases = Case::ALL.iter().filter(|case| !self.smoke || case.name == "S").collect();
        }
        if self.tools.is_empty() {
            self.tools = Tool::ALL.to_vec();
        }
        if self.precisions.is_empty() {
            let unasked = |p: &Precision| *p == Precision::Bf16x3 && !super::machine::has_amx();
            self.precisions = Precision::ALL.into_iter().filter(|p| !unasked(p)).collect();
        }
    }
}

fn wrong(word: &str, problem: &'static str) -> BenchError {
    BenchError::Option { word: word.to_owned(), problem }
}

fn number(word: &str) -> Result<usize> {
    usize::from_str(word).ok().filter(|&n| n > 0).ok_or_else(|| wrong(word, "expected a number, 1 or more"))
}

fn list<T>(words: &str, named: fn(&str) -> Option<T>, problem: &'static str) -> Result<Vec<T>> {
    words.split(',').map(|word| named(word).ok_or_else(|| wrong(word, problem))).collect()
}
