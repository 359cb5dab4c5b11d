//! `etymon top`.

use std::io::IsTerminal;

use etymon_store::{QueryRow, RunFolder};
use etymon_viewer::{Color, QueryReport, to_terminal};
use serde_json::{Value, json};

use super::report::read_report;
use super::{CommandResult, Context, Outcome, print};
use crate::args::TopArgs;
use crate::error::{CliError, Result};

pub fn run(args: &TopArgs, context: Context) -> CommandResult {
    let only = (!args.query.is_empty()).then_some(args.query.as_slice());
    check_known(args)?;
    let report = read_report(&args.scores, String::new(), only)?;
    if !context.global.json {
        for query in &report.queries {
            show(query, args.k);
        }
    }
    Ok(Outcome::Done(json!({ "queries": report.queries.iter().map(|q| as_json(q, args.k)).collect::<Vec<_>>() })))
}

/// Prints the ranked texts of one query.
pub fn show(query: &QueryReport, k: usize) {
    let terminal = std::io::stdout().is_terminal();
    let color = if terminal && std::env::var_os("NO_COLOR").is_none() { Color::Always } else { Color::Never };
    let columns = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
    print(&to_terminal(query, columns.unwrap_or(100).min(120), color, k));
}

fn check_known(args: &TopArgs) -> Result<()> {
    let run = RunFolder::open_complete(&args.scores, "scores")?;
    let rows = QueryRow::read_all(&run.file("queries.parquet"))?;
    let mut known: Vec<String> = rows.into_iter().map(|q| q.query_id).collect();
    let Some(id) = args.query.iter().find(|id| !known.contains(id)) else { return Ok(()) };
    known.truncate(20);
    let folder = args.scores.display().to_string();
    Err(CliError::UnknownQuery { id: id.clone(), folder, known: known.join(", ") })
}

fn as_json(query: &QueryReport, k: usize) -> Value {
    json!({
        "id": query.id,
        "prompt": query.prompt,
        "completion": query.completion,
        "measurement": query.measurement,
        "proponents": &query.proponents[..k.min(query.proponents.len())],
        "opponents": &query.opponents[..k.min(query.opponents.len())],
    })
}
