//! Correlations, ranks, intervals. All in f64.

use rand::Rng;
use serde::Serialize;

use crate::draws::{Stream, below};

/// Resamples of every interval.
pub const RESAMPLES: usize = 1000;

/// A figure with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// The figure itself.
    pub value: f64,
    /// 2.5 % of the resampled figures are below.
    pub low: f64,
    /// 2.5 % of the resampled figures are above.
    pub high: f64,
}

impl Interval {
    /// Half of its width: "± this".
    pub fn half_width(&self) -> f64 {
        (self.high - self.low) / 2.0
    }
}

/// Mean; NaN of nothing.
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Pearson's correlation; `None` where it is not defined: fewer than two pairs, lists of different lengths, a list that is
/// constant, or numbers that are not finite.
pub fn pearson(x: &[f64], y: &[f64]) -> Option<f64> {
    if x.len() != y.len() || x.len() < 2 {
        return None;
    }
    let (mx, my) = (mean(x), mean(y));
    let (mut xx, mut yy, mut xy) = (0.0, 0.0, 0.0);
    for (a, b) in x.iter().zip(y) {
        let (a, b) = (a - mx, b - my);
        xx += a * a;
        yy += b * b;
        xy += a * b;
    }
    // A list of equal numbers may leave rounding behind; it has no direction.
    let constant = |v: &[f64]| v.iter().all(|&a| a == v[0]);
    let r = xy / (xx.sqrt() * yy.sqrt());
    (r.is_finite() && !constant(x) && !constant(y)).then(|| r.clamp(-1.0, 1.0))
}

/// `[n]` Ranks from 1; equal numbers share the mean of their ranks.
pub fn mid_ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut start = 0;
    while start < order.len() {
        let equal = order[start..].iter().take_while(|&&i| values[i] == values[order[start]]).count().max(1);
        let rank = start as f64 + (equal as f64 + 1.0) / 2.0;
        order[start..start + equal].iter().for_each(|&i| ranks[i] = rank);
        start += equal;
    }
    ranks
}

/// Spearman's correlation: Pearson's of mid-ranks. `None` as there.
pub fn spearman(x: &[f64], y: &[f64]) -> Option<f64> {
    let finite = x.iter().chain(y).all(|v| v.is_finite());
    if finite { pearson(&mid_ranks(x), &mid_ranks(y)) } else { None }
}

/// Area under the ROC curve: the probability that a positive has a larger score than a negative, equal scores counting
/// half. `None` without positives or without negatives.
pub fn auc(scores: &[f64], positive: &[bool]) -> Option<f64> {
    let n_positive = positive.iter().filter(|&&p| p).count();
    let n_negative = positive.len() - n_positive;
    if scores.len() != positive.len() || n_positive == 0 || n_negative == 0 || scores.iter().any(|s| s.is_nan()) {
        return None;
    }
    let sum: f64 = mid_ranks(scores).iter().zip(positive).filter(|(_, p)| **p).map(|(r, _)| r).sum();
    let least = n_positive as f64 * (n_positive as f64 + 1.0) / 2.0;
    Some((sum - least) / (n_positive as f64 * n_negative as f64))
}

/// The figure of `n` units, and the percentiles of the figure of `n` units drawn from them with replacement,
/// [`RESAMPLES`] times, from the stream `bootstrap` of `seed`. Resamples of which the figure is not defined do not count.
pub fn bootstrap(n: usize, seed: u64, figure: impl Fn(&[usize]) -> Option<f64>) -> Option<Interval> {
    let value = figure(&(0..n).collect::<Vec<_>>())?;
    let mut resampled: Vec<f64> = (0..RESAMPLES as u64)
        .filter_map(|i| {
            let mut rng = Stream::Bootstrap.rng(seed, i);
            let units: Vec<usize> = (0..n).map(|_| below(rng.next_u64(), n)).collect();
            figure(&units)
        })
        .collect();
    resampled.sort_by(f64::total_cmp);
    let (low, high) = (percentile(&resampled, 0.025)?, percentile(&resampled, 0.975)?);
    Some(Interval { value, low, high })
}

/// The mean of values with its interval; `None` of nothing.
pub fn bootstrap_mean(values: &[f64], seed: u64) -> Option<Interval> {
    bootstrap(values.len(), seed, |units| {
        let sum: f64 = units.iter().map(|&u| values[u]).sum();
        (!units.is_empty()).then(|| sum / units.len() as f64)
    })
}

/// A percentile of sorted values, interpolated.
fn percentile(sorted: &[f64], p: f64) -> Option<f64> {
    let at = p * (sorted.len().checked_sub(1)? as f64);
    let (low, high) = (*sorted.get(at.floor() as usize)?, *sorted.get(at.ceil() as usize)?);
    Some(low + (high - low) * at.fract())
}
