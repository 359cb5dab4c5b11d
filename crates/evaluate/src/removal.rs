//! Removal of examples: predicted effect against the actual one (leave-one-out, leave-k-out), and which rows to remove.

use crate::Method;
use crate::statistics::{Interval, bootstrap, bootstrap_mean, pearson, spearman};

/// How well predicted effects of removals agree with actual ones.
#[derive(Clone, Debug, PartialEq)]
pub struct Agreement {
    /// Over all (removal, query) pairs; the interval over queries.
    pub pearson: Option<Interval>,
    /// The same.
    pub spearman: Option<Interval>,
    /// Spearman over removals for each query, mean over queries; not defined is 0.
    pub per_query: Option<Interval>,
    /// `[removals][Q]` −Σ I(q, m)/N over the removed m, in nats.
    pub predicted: Vec<Vec<f64>>,
}

/// Compares −Σ_{m∈removed} I(q, m)/N with the actual change of f. `removed` are positions in the train set per removal,
/// `actual` is `[removals][Q]`.
pub fn agreement(method: &Method, removed: &[Vec<usize>], actual: &[Vec<f64>], seed: u64) -> Agreement {
    let n_train = method.scores.first().map_or(1, Vec::len).max(1) as f64;
    let effect = |scores: &Vec<f32>, rows: &[usize]| -rows.iter().map(|&m| f64::from(scores[m])).sum::<f64>() / n_train;
    let predicted: Vec<Vec<f64>> =
        removed.iter().map(|rows| method.scores.iter().map(|scores| effect(scores, rows)).collect()).collect();
    let n_queries = method.scores.len();
    let columns = |queries: &[usize], of: &[Vec<f64>]| -> Vec<f64> {
        queries.iter().flat_map(|&q| of.iter().map(move |row| row[q])).collect()
    };
    let pooled = |correlation: fn(&[f64], &[f64]) -> Option<f64>| {
        let figure = |queries: &[usize]| correlation(&columns(queries, &predicted), &columns(queries, actual));
        bootstrap(n_queries, seed, figure)
    };
    let each: Vec<f64> =
        (0..n_queries).map(|q| spearman(&columns(&[q], &predicted), &columns(&[q], actual)).unwrap_or(0.0)).collect();
    let (by_pearson, by_spearman) = (pooled(pearson), pooled(spearman));
    Agreement { pearson: by_pearson, spearman: by_spearman, per_query: bootstrap_mean(&each, seed), predicted }
}

/// `[k]` Positions of the largest scores, largest first; of equal ones the first.
pub fn top(scores: &[f32], k: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
    order.truncate(k);
    order
}
