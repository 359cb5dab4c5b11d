use serde::{Deserialize, Serialize};

/// Above this ratio of the largest score to the typical one, bins are equal on an asinh scale instead of a linear one.
const HEAVY_TAIL: f64 = 20.0;

/// Counts of the scores of a train set. Bins are half-open, the last one is closed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Histogram {
    /// `[n_bins + 1]` Rising; where scores of both signs occur, 0 is an edge.
    pub edges: Vec<f64>,
    /// `[n_bins]`
    pub counts: Vec<u64>,
}

impl Histogram {
    /// Counts `scores` in `bins` bins.
    ///
    /// Influence scores have heavy tails. Where the largest |score| is more than 20 times the median |score| c, the bins
    /// are equal in asinh(score / c), close to linear around 0 and logarithmic beyond c; else they are equal in the
    /// score. Scores that are not finite are left out. No score, no bin.
    ///
    /// ```
    /// let h = etymon_viewer::Histogram::from_scores([-1.0_f32, 0.5, 900.0], 8);
    /// assert_eq!(h.counts.iter().sum::<u64>(), 3);
    /// assert_eq!(h.edges.len(), 9);
    /// ```
    pub fn from_scores(scores: impl IntoIterator<Item = impl Into<f64>>, bins: usize) -> Self {
        let scores: Vec<f64> = scores.into_iter().map(Into::into).filter(|s| s.is_finite()).collect();
        if scores.is_empty() {
            return Self::default();
        }
        let edges = edges(&scores, bins.max(1));
        let mut counts = vec![0; edges.len() - 1];
        for score in &scores {
            let bin = edges.partition_point(|edge| edge <= score).saturating_sub(1);
            counts[bin.min(edges.len() - 2)] += 1;
        }
        Self { edges, counts }
    }
}

fn edges(scores: &[f64], bins: usize) -> Vec<f64> {
    let (min, max) = scores.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), &s| (a.min(s), b.max(s)));
    if min == max {
        let margin = if min == 0.0 { 1.0 } else { min.abs() / 2.0 };
        return spread(min - margin, min + margin, bins);
    }
    let typical = median_magnitude(scores);
    if typical > 0.0 && min.abs().max(max.abs()) > HEAVY_TAIL * typical {
        let mut edges = spread((min / typical).asinh(), (max / typical).asinh(), bins);
        edges.iter_mut().for_each(|edge| *edge = edge.sinh() * typical);
        edges
    } else {
        spread(min, max, bins)
    }
}

/// `bins + 1` equally spaced edges that cover `low..=high`, one of them 0 when both signs occur.
fn spread(low: f64, high: f64, bins: usize) -> Vec<f64> {
    if low < 0.0 && high > 0.0 && bins > 1 {
        // Split the bins between the signs so that the step, equal on both sides, is as small as it can be.
        let step_of = |below: usize| (-low / below as f64).max(high / (bins - below) as f64);
        let below = (1..bins).min_by(|&a, &b| step_of(a).total_cmp(&step_of(b))).unwrap_or(1);
        let step = step_of(below);
        return (0..=bins).map(|i| (i as f64 - below as f64) * step).collect();
    }
    let step = (high - low) / bins as f64;
    (0..=bins).map(|i| if i == bins { high } else { low + i as f64 * step }).collect()
}

/// Median of the absolute values that are not 0; 0 when all are.
fn median_magnitude(scores: &[f64]) -> f64 {
    let mut magnitudes: Vec<f64> = scores.iter().map(|s| s.abs()).filter(|&s| s > 0.0).collect();
    if magnitudes.is_empty() {
        return 0.0;
    }
    let middle = magnitudes.len() / 2;
    *magnitudes.select_nth_unstable_by(middle, f64::total_cmp).1
}

/// Key figures of the scores of a train set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Mean score.
    pub mean: f64,
    /// Standard deviation (divisor N).
    pub std: f64,
    /// Smallest score.
    pub min: f64,
    /// Largest score.
    pub max: f64,
    /// Share, 0 to 1, of the total positive influence that the top 1 % of the examples hold (Grosse et al. 2023 find
    /// 0.12 to 0.52); 0 when no score is positive.
    pub top_percent_share: f64,
}

impl Summary {
    /// Summarises `scores`, leaving out those that are not finite. The top 1 % is rounded up to whole examples.
    pub fn from_scores(scores: impl IntoIterator<Item = impl Into<f64>>) -> Self {
        let mut scores: Vec<f64> = scores.into_iter().map(Into::into).filter(|s| s.is_finite()).collect();
        if scores.is_empty() {
            return Self::default();
        }
        let n = scores.len() as f64;
        let mean = scores.iter().sum::<f64>() / n;
        let std = (scores.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / n).sqrt();
        scores.sort_unstable_by(|a, b| b.total_cmp(a));
        let positive = |scores: &[f64]| scores.iter().take_while(|&&s| s > 0.0).sum::<f64>();
        let (top, total) = (positive(&scores[..scores.len().div_ceil(100)]), positive(&scores));
        let top_percent_share = if total > 0.0 { top / total } else { 0.0 };
        Self { mean, std, min: scores[scores.len() - 1], max: scores[0], top_percent_share }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_sum_to_the_number_of_finite_scores_on_either_scale() {
        let heavy: Vec<f64> = (1..5000).map(|i| (f64::from(i) * 0.7).sin() / (f64::from(i) / 5000.0).powi(2)).collect();
        let flat: Vec<f64> = (0..1000).map(|i| f64::from(i) / 10.0 - 30.0).collect();
        for scores in [heavy, flat, vec![0.0; 7], vec![-3.0; 5], vec![2.0, f64::NAN], vec![1e-30, 1e30, -1e30]] {
            for bins in [1, 2, 3, 10, 61] {
                let h = Histogram::from_scores(scores.iter().copied(), bins);
                let finite = scores.iter().filter(|s| s.is_finite()).count() as u64;
                assert_eq!(h.counts.iter().sum::<u64>(), finite);
                assert_eq!((h.counts.len(), h.edges.len()), (bins, bins + 1));
                assert!(h.edges.windows(2).all(|w| w[0] < w[1]), "{:?}", h.edges);
            }
        }
    }

    #[test]
    fn scores_of_both_signs_never_share_a_bin() {
        let scores: Vec<f32> = (0..999).map(|i| ((i as f32) - 300.0).powi(3)).collect();
        let h = Histogram::from_scores(scores.iter().copied(), 30);
        let zero = h.edges.iter().position(|&e| e == 0.0).expect("an edge at 0");
        assert_eq!(h.counts[..zero].iter().sum::<u64>(), 300);
    }

    #[test]
    fn no_scores_give_no_bins() {
        assert_eq!(Histogram::from_scores([f32::NAN], 10), Histogram::default());
        assert_eq!(Summary::from_scores(Vec::<f32>::new()), Summary::default());
    }

    #[test]
    fn the_top_percent_holds_its_share_of_the_positive_influence() {
        let mut scores = vec![1.0_f32; 198];
        scores.extend([-50.0, 99.0]);
        let s = Summary::from_scores(scores);
        assert_eq!((s.min, s.max), (-50.0, 99.0));
        assert!((s.top_percent_share - 100.0 / 297.0).abs() < 1e-12);
        assert!((s.mean - 247.0 / 200.0).abs() < 1e-12);
    }
}
