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

/// Columns of equal width: the first to the left, the others to the right.
pub fn aligned(table: &[Vec<String>]) -> Vec<String> {
    let n = table.iter().map(Vec::len).max().unwrap_or(0);
    let width =
        |c: usize| table.iter().filter_map(|row| row.get(c)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..n).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).enumerate().map(|(c, (cell, &w))| match c {
            0 => format!("{cell:<w$}"),
            _ => format!("{cell:>w$}"),
        });
        cells.collect::<Vec<_>>().join("  ")
    };
    table.iter().map(line).collect()
}

/// Runs a command with a result.
pub type CommandResult = Result<Outcome>;
