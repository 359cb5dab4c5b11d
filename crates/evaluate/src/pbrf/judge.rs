//! Scores against responses: correlations with bootstrap intervals.

use rand::RngExt;
use serde::Serialize;

use crate::Stream;
use crate::statistics::{RESAMPLES, pearson, spearman};

/// A figure and the 2.5 % and 97.5 % percentiles of it over train examples drawn anew with replacement.
pub type Figure = [f64; 3];

/// How well scores foretell responses. A figure is NaN where a column is constant.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Agreement {
    /// Pearson's correlation over the train examples, mean over queries.
    pub pearson: Figure,
    /// Spearman's rank correlation, mean over queries.
    pub spearman: Figure,
    /// Pearson's over all pairs at once.
    pub pooled_pearson: Figure,
    /// Spearman's over all pairs at once.
    pub pooled_spearman: Figure,
    /// a of the least-squares line f(θˢ(ε)) − f(θˢ) = a · ε I(q, m) through 0: 1 where the influence has the right size.
    pub slope: f64,
}

/// Compares `scores` I(q, m) `[M][Q]` with `changes` f(θˢ(ε)) − f(θˢ) `[M][Q]`, both by train example and query.
pub fn judge(scores: &[Vec<f64>], changes: &[Vec<f64>], epsilon: f64, seed: u64) -> Agreement {
    let predicted: Vec<Vec<f64>> = scores.iter().map(|s| s.iter().map(|s| epsilon * s).collect()).collect();
    let all: Vec<usize> = (0..scores.len()).collect();
    let figures = |rows: &[usize]| {
        let (x, y) = (columns(&predicted, rows), columns(changes, rows));
        let mean = |of: fn(&[f64], &[f64]) -> Option<f64>| {
            x.iter().zip(&y).map(|(x, y)| of(x, y).unwrap_or(f64::NAN)).sum::<f64>() / x.len().max(1) as f64
        };
        let (flat_x, flat_y) = (x.concat(), y.concat());
        let pooled = |of: fn(&[f64], &[f64]) -> Option<f64>| of(&flat_x, &flat_y).unwrap_or(f64::NAN);
        [mean(pearson), mean(spearman), pooled(pearson), pooled(spearman)]
    };
    let value = figures(&all);
    let mut drawn: Vec<[f64; 4]> = (0..RESAMPLES as u64)
        .map(|i| {
            let mut rng = Stream::Bootstrap.rng(seed, i);
            figures(&all.iter().map(|_| rng.random_range(0..all.len())).collect::<Vec<_>>())
        })
        .collect();
    let mut figure = |i: usize| {
        drawn.sort_by(|a, b| a[i].total_cmp(&b[i]));
        let at = |part: f64| drawn[(part * (drawn.len() - 1) as f64).round() as usize][i];
        [value[i], at(0.025), at(0.975)]
    };
    let pairs = || predicted.iter().flatten().zip(changes.iter().flatten());
    Agreement {
        pearson: figure(0),
        spearman: figure(1),
        pooled_pearson: figure(2),
        pooled_spearman: figure(3),
        slope: pairs().map(|(x, y)| x * y).sum::<f64>() / pairs().map(|(x, _)| x * x).sum::<f64>(),
    }
}

/// `count` of 0..n, or all of them, ascending, from the stream `pairs` of the seed.
pub fn draw_indices(n: usize, count: usize, seed: u64, which: u64) -> Vec<usize> {
    let mut rng = Stream::Pairs.rng(seed, which);
    let mut order: Vec<usize> = (0..n).collect();
    for i in 0..count.min(n) {
        order.swap(i, rng.random_range(i..n));
    }
    order.truncate(count);
    order.sort_unstable();
    order
}

/// `[Q][rows]`
fn columns(table: &[Vec<f64>], rows: &[usize]) -> Vec<Vec<f64>> {
    let width = table.first().map_or(0, Vec::len);
    (0..width).map(|q| rows.iter().map(|&r| table[r][q]).collect()).collect()
}
