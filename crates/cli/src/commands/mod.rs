//! The commands: arguments → checked plan → libraries → a line or a JSON object.

pub mod compare;
pub mod doctor;
pub mod evaluate;
pub mod fit;
pub mod methods;
pub mod pbrf;
pub mod plan;
pub mod quickstart;
pub mod report;
pub mod score;
pub mod simulate;
pub mod top;
pub mod train;

use serde_json::Value;

use crate::args::Global;
use crate::error::Result;
use crate::progress::Reporter;

/// What every command gets.
#[derive(Clone, Copy)]
pub struct Context {
    /// Options of every command.
    pub global: Global,
    /// Messages and bars.
    pub reporter: Reporter,
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Done; the JSON result.
    Done(Value),
    /// A check found something; the JSON result.
    Found(Value),
}

/// Prints to standard output.
#[allow(clippy::print_stdout)]
pub fn print(text: &str) {
    use std::io::Write;
    // A closed pipe (`etymon top S | head`) is no error.
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Runs a command with a result.
pub type CommandResult = Result<Outcome>;
