//! `etymon compare`.

mod open;

use etymon_store::write_atomic;
use etymon_viewer::{
    Agreement, ComparedRow, Comparison, QueryComparison, RankedRow, compare_columns, compare_to_html,
    compare_to_terminal,
};
use serde_json::json;

use super::{CommandResult, Context, Outcome, print};
use crate::args::CompareArgs;
use crate::error::{CliError, Result};
use open::Tables;

pub fn run(args: &CompareArgs, context: Context) -> CommandResult {
    let tables = Tables::open(&args.scores)?;
    let comparison = compare(args, &tables)?;
    if let Some(output) = &args.output {
        let html = compare_to_html(&comparison)?;
        write_atomic(output, |to| to.write_all(html.as_bytes()))?;
        context.reporter.say(format!("comparison in {}", output.display()));
    } else if !context.global.json {
        let columns = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
        print(compare_to_terminal(&comparison, columns.unwrap_or(120)).trim_end());
    }
    Ok(Outcome::Done(json!(comparison)))
}

/// Holds, of one query at a time, the scores of all tables, and the ids of the train examples.
fn compare(args: &CompareArgs, tables: &Tables) -> Result<Comparison> {
    if let Some(id) = args.query.iter().find(|id| !tables.queries.iter().any(|q| &&q.query_id == id)) {
        let known: Vec<&str> = tables.queries.iter().take(20).map(|q| q.query_id.as_str()).collect();
        let folder = tables.folders[0].display().to_string();
        return Err(CliError::UnknownQuery { id: id.clone(), folder, known: known.join(", ") });
    }
    let mut queries = Vec::new();
    for query in &tables.queries {
        if !args.query.is_empty() && !args.query.contains(&query.query_id) {
            continue;
        }
        let columns = tables.columns(&query.query_id)?;
        let (agreement, lists) = compare_columns(&columns, args.top, args.k);
        let lists = lists.into_iter().map(|list| list.into_iter().map(|row| compared(tables, row)).collect()).collect();
        queries.push(QueryComparison {
            id: query.query_id.clone(),
            prompt: query.prompt.clone().or_else(|| query.text.clone()).unwrap_or_default(),
            completion: query.completion.clone().unwrap_or_default(),
            metadata: query.metadata.clone(),
            agreement,
            lists,
        });
    }
    let agreements: Vec<&Agreement> = queries.iter().map(|q| &q.agreement).collect();
    Ok(Comparison {
        title: args.title.clone(),
        tables: tables.names.clone(),
        n_train: tables.train_ids.len() as u64,
        top: args.top,
        mean: Agreement::mean(&agreements, tables.folders.len()),
        queries,
    })
}

fn compared(tables: &Tables, RankedRow { row, score, ranks }: RankedRow) -> ComparedRow {
    let train_id = tables.train_ids[row].clone();
    let text = tables.texts.get(&train_id).cloned().unwrap_or_default();
    ComparedRow { row, train_id, score, ranks, text }
}
