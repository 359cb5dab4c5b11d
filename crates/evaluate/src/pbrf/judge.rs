//! Scores against responses: correlations with bootstrap intervals.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

/// Resamples of an interval.
const RESAMPLES: u64 = 1000;

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
        let mean = |of: fn(&[f64], &[f64]) -> f64| {
            x.iter().zip(&y).map(|(x, y)| of(x, y)).sum::<f64>() / x.len().max(1) as f64
        };
        let (flat_x, flat_y) = (x.concat(), y.concat());
        [mean(pearson), mean(spearman), pearson(&flat_x, &flat_y), spearman(&flat_x, &flat_y)]
    };
    let value = figures(&all);
    let mut drawn: Vec<[f64; 4]> = (0..RESAMPLES)
        .map(|i| {
            let mut rng = stream(seed, b"bootstrap", i);
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
    let mut rng = stream(seed, b"pairs", which);
    let mut order: Vec<usize> = (0..n).collect();
    for i in 0..count.min(n) {
        order.swap(i, rng.random_range(i..n));
    }
    order.truncate(count);
    order.sort_unstable();
    order
}

fn stream(seed: u64, name: &[u8], number: u64) -> ChaCha8Rng {
    let mut key = [0u8; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..8 + name.len()].copy_from_slice(name);
    let mut rng = ChaCha8Rng::from_seed(key);
    rng.set_stream(number);
    rng
}

/// `[Q][rows]`
fn columns(table: &[Vec<f64>], rows: &[usize]) -> Vec<Vec<f64>> {
    let width = table.first().map_or(0, Vec::len);
    (0..width).map(|q| rows.iter().map(|&r| table[r][q]).collect()).collect()
}

fn pearson(x: &[f64], y: &[f64]) -> f64 {
    let n = x.len() as f64;
    let (mean_x, mean_y) = (x.iter().sum::<f64>() / n, y.iter().sum::<f64>() / n);
    let (mut xx, mut yy, mut xy) = (0.0, 0.0, 0.0);
    for (x, y) in x.iter().zip(y) {
        let (x, y) = (x - mean_x, y - mean_y);
        (xx, yy, xy) = (xx + x * x, yy + y * y, xy + x * y);
    }
    xy / (xx * yy).sqrt()
}

fn spearman(x: &[f64], y: &[f64]) -> f64 {
    pearson(&ranks(x), &ranks(y))
}

/// Ranks from 0; equal numbers share the mean of theirs.
fn ranks(x: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..x.len()).collect();
    order.sort_by(|&a, &b| x[a].total_cmp(&x[b]));
    let mut ranks = vec![0.0; x.len()];
    let mut start = 0;
    for group in order.chunk_by(|&a, &b| x[a] == x[b]) {
        let rank = start as f64 + (group.len() - 1) as f64 / 2.0;
        group.iter().for_each(|&i| ranks[i] = rank);
        start += group.len();
    }
    ranks
}
