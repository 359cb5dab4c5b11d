//! TracIn-CP scores for a simulator.

use std::collections::BTreeMap;

use etymon_model::Measurement;
use etymon_simulate::{Kind, Recorded};
use etymon_store::{RunFolder, ScoreTable};

use crate::args::SimulateLogArgs;
use crate::error::{CliError, Result};
use crate::method::ScoreMethod;

/// `[n, Q]` The scores of the recorded train examples on the watched ones, if one of the kinds is made of them.
pub fn read(args: &SimulateLogArgs, kinds: &[Kind], recorded: &Recorded) -> Result<Option<Vec<f64>>> {
    let usage = |problem| Err(CliError::Usage { option: "--scores", problem });
    let needed = kinds.contains(&Kind::TracinCp);
    let folder = match &args.scores {
        Some(folder) if needed => folder,
        None if !needed => return Ok(None),
        Some(_) => return usage("is for the kind tracin-cp".to_owned()),
        None => return usage("is missing; the kind tracin-cp is made of scores of `etymon score`".to_owned()),
    };
    let run = RunFolder::open_complete(folder, "scores")?;
    let config = &run.manifest().spec.config;
    let shown = folder.display();
    let (method, measurement) = (config["method"].as_str(), config["measurement"].as_str());
    // One checkpoint is the final model alone.
    if ![ScoreMethod::TracinCp, ScoreMethod::GradDot].map(|m| Some(m.name())).contains(&method) {
        let method = method.unwrap_or("another method");
        return usage(format!("{shown} is of {method}; score with --method tracin-cp"));
    }
    if measurement != Some(Measurement::LogLikelihood.name()) {
        return usage(format!("{shown} is of another measurement; losses are minus the log-likelihood"));
    }
    let table = ScoreTable::open(folder)?;
    if let Some(query) = recorded.query_ids.iter().find(|id| !table.queries().contains(id)) {
        return usage(format!("{shown} has no query `{query}`, which the runs watch"));
    }
    let rows: BTreeMap<String, usize> = table.train_ids()?.into_iter().zip(0..).collect();
    if let Some(id) = recorded.train_ids.iter().find(|id| !rows.contains_key(*id)) {
        return usage(format!("{shown} has no train example `{id}`, which the runs contain"));
    }
    let rows: Vec<usize> = recorded.train_ids.iter().filter_map(|id| rows.get(id).copied()).collect();
    let n_queries = recorded.query_ids.len();
    let mut scores = vec![0.0; rows.len() * n_queries];
    for (q, query) in recorded.query_ids.iter().enumerate() {
        let column = table.column(query)?;
        rows.iter().enumerate().for_each(|(i, &row)| scores[i * n_queries + q] = f64::from(column[row]));
    }
    Ok(Some(scores))
}
