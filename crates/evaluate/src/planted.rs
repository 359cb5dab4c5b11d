//! Recall of planted facts: does the ranking find the examples that are known to matter?

use serde_json::Value;

use crate::Method;
use crate::removal::top;
use crate::statistics::{Interval, bootstrap_mean};

/// How well rankings find known examples.
#[derive(Clone, Debug, PartialEq)]
pub struct Recall {
    /// Per k: the share of a query's relevant examples among its k top proponents (of at most k: a query with more relevant
    /// examples than k can reach 1), mean over queries.
    pub at: Vec<(usize, Option<Interval>)>,
    /// Mean reciprocal rank of the first relevant example.
    pub mrr: Option<Interval>,
}

/// Recall and MRR; `relevant` are per query the positions of its examples in the train set, at least one.
pub fn recall(method: &Method, relevant: &[Vec<usize>], ks: &[usize], seed: u64) -> Recall {
    let rankings: Vec<Vec<usize>> = method.scores.iter().map(|scores| top(scores, scores.len())).collect();
    let share = |k: usize| -> Vec<f64> {
        let of = |(ranking, wanted): (&Vec<usize>, &Vec<usize>)| {
            let found = ranking.iter().take(k).filter(|m| wanted.contains(m)).count();
            found as f64 / wanted.len().min(k).max(1) as f64
        };
        rankings.iter().zip(relevant).map(of).collect()
    };
    let reciprocal = |(ranking, wanted): (&Vec<usize>, &Vec<usize>)| {
        ranking.iter().position(|m| wanted.contains(m)).map_or(0.0, |at| 1.0 / (at as f64 + 1.0))
    };
    let ranks: Vec<f64> = rankings.iter().zip(relevant).map(reciprocal).collect();
    Recall { at: ks.iter().map(|&k| (k, bootstrap_mean(&share(k), seed))).collect(), mrr: bootstrap_mean(&ranks, seed) }
}

/// What a column of metadata names: a string, a number or a truth value, or a list of them.
pub fn names_in(value: &Value) -> Vec<String> {
    match value {
        Value::String(name) => vec![name.clone()],
        Value::Number(_) | Value::Bool(_) => vec![value.to_string()],
        Value::Array(list) => list.iter().flat_map(names_in).collect(),
        Value::Null | Value::Object(_) => Vec::new(),
    }
}
