//! `etymon evaluate recall`.

use std::collections::BTreeMap;

use etymon_data::{Corpus, CorpusOptions, Example, train_bpe};
use etymon_evaluate::plot::{Joined, Series, series};
use etymon_evaluate::{find_methods, names_in, recall};
use serde_json::json;

use super::super::{CommandResult, Context};
use super::verdict::{Verdict, check_out, seconds, shown};
use crate::args::RecallArgs;
use crate::error::{CliError, Result};

pub fn run(args: &RecallArgs, context: Context) -> CommandResult {
    check_out(&args.out, "recall")?;
    let seed = context.global.seed.unwrap_or(0);
    let (train, queries) = (read(&args.data)?, read(&args.queries)?);
    let train_ids: Vec<String> = train.iter().map(|e| e.id.clone()).collect();
    let (query_ids, relevant) = relevant(args, &train, &queries)?;
    let folders = find_methods(&args.scores)?;
    folders.iter().try_for_each(|folder| folder.check(&train_ids, &query_ids))?;
    context.reporter.say(format!("{} of {} queries say what must be found", query_ids.len(), queries.len()));

    let heads = args.k.iter().map(|k| format!("recall@{k}"));
    let head = ["method".to_owned(), "MRR".to_owned()].into_iter().chain(heads).chain(["seconds".to_owned()]);
    let mut table = vec![head.collect::<Vec<_>>()];
    let (mut methods, mut lines) = (Vec::new(), Vec::new());
    for folder in &folders {
        let method = folder.read(&train_ids, &query_ids)?;
        let found = recall(&method, &relevant, &args.k, seed);
        let figures: Vec<String> = std::iter::once(found.mrr).chain(found.at.iter().map(|a| a.1)).map(shown).collect();
        table.push([vec![method.name.clone()], figures, vec![seconds(method.seconds)]].concat());
        let points = found.at.iter().filter_map(|(k, share)| Some((*k as f64, (*share)?.value))).collect();
        lines.push(Series { name: method.name.clone(), points });
        let at: Vec<_> = found.at.iter().map(|(k, share)| json!({ "k": k, "recall": share })).collect();
        methods.push(json!({ "method": method.name, "mrr": found.mrr, "recall": at, "seconds": method.seconds }));
    }
    let title = format!("Recall of known rows, {} queries", query_ids.len());
    let svg = series(&title, "k", "recall@k", &lines, Joined::Lines)?;
    let settings = json!({
        "data": args.data, "queries": args.queries, "expect": args.expect, "match": args.matched,
        "k": args.k, "n_train": train.len(), "n_queries": query_ids.len(), "seed": seed,
    });
    Verdict { figure: "recall", settings, methods, table, svg }.finish(&args.out.out, context)
}

/// The queries that expect something, with the positions of what they expect.
fn relevant(args: &RecallArgs, train: &[Example], queries: &[Example]) -> Result<(Vec<String>, Vec<Vec<usize>>)> {
    let mut named: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (i, example) in train.iter().enumerate() {
        let names = match &args.matched {
            None => vec![example.id.clone()],
            Some(column) => example.metadata.get(column).map(names_in).unwrap_or_default(),
        };
        names.into_iter().for_each(|name| named.entry(name).or_default().push(i));
    }
    let (mut ids, mut relevant) = (Vec::new(), Vec::new());
    for query in queries {
        let wanted = query.metadata.get(&args.expect).map(names_in).unwrap_or_default();
        if wanted.is_empty() {
            continue;
        }
        let rows: Vec<usize> = wanted.iter().filter_map(|name| named.get(name)).flatten().copied().collect();
        if rows.is_empty() {
            let problem =
                format!("no row of the training data is what query `{}` expects: {}", query.id, wanted.join(", "));
            return Err(CliError::Usage { option: "--expect", problem });
        }
        ids.push(query.id.clone());
        relevant.push(rows);
    }
    if ids.is_empty() {
        let problem = format!("no query has a value in the column `{}`", args.expect);
        return Err(CliError::Usage { option: "--expect", problem });
    }
    Ok((ids, relevant))
}

/// Rows with their metadata; what a model would read of them does not matter here, so bytes are the tokens.
fn read(paths: &[std::path::PathBuf]) -> Result<Vec<Example>> {
    let bytes = train_bpe(std::iter::empty::<String>(), 257, &[])?;
    Ok(Corpus::open(paths, Some(bytes), CorpusOptions::default())?.read_all()?)
}
