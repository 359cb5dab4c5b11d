//! Data selection by importance resampling, DSIR (Xie et al. 2023, 2302.03169).

use etymon_data::{DataError, Encoder, Example};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::score_each;
use super::words::{BUCKETS, Words};
use crate::{AttributionError, Result, ScoreSink};

/// Added to every probability.
const SMOOTHING: f64 = 1e-8;

/// Log importance weights of train examples: log p_target − log p_raw of their n-grams.
///
/// A text is lowercased and split into words and runs of punctuation; words and pairs of neighbours are hashed into
/// [`BUCKETS`] buckets. p(b) is the share of the n-grams in bucket b: p_target over the examples of a target, p_raw over
/// the whole train set. The weight of an example with counts c is Σ_b c_b (log(p_target(b) + 1e-8) − log(p_raw(b) + 1e-8)).
///
/// All of it as in the authors' package `data-selection` 1.0.3, with three differences: p_raw is of the whole train set
/// (there: until 10⁹ n-grams), examples of fewer than 100 words get a score as well, and each column has a target of its
/// own. A target of one query leaves most buckets empty, so that scores fall with the length of an example: DSIR is made
/// for targets of many examples.
///
/// The text counts whole, also what a model would not see of it. Without a text and with a tokenizer it is decoded; with
/// neither, and if the first target has no text, token ids are the words.
#[derive(Clone, Debug)]
pub struct NgramImportance {
    words: Words,
    /// `[BUCKETS, Q]` What an n-gram adds.
    weights: Vec<f64>,
    n_targets: usize,
}

impl NgramImportance {
    /// Counts the n-grams of each target, such as one query, and of the train set.
    ///
    /// # Errors
    /// No target, or only empty ones; the errors of reading; rows of features, and rows that have no text where it
    /// is needed, are refused.
    pub fn fit(
        targets: &[&[Example]],
        encoder: Option<&Encoder>,
        examples: impl Iterator<Item = std::result::Result<Example, DataError>>,
    ) -> Result<Self> {
        if targets.iter().all(|target| target.is_empty()) {
            return Err(AttributionError::NoQueries);
        }
        let words = Words::new(targets, encoder)?;
        let mut raw = vec![0u64; BUCKETS];
        for example in examples {
            words.for_each_bucket(&example?, |bucket| raw[bucket] += 1)?;
        }
        let raw = log_shares(&raw);
        let n_targets = targets.len();
        let mut weights = vec![0.0; BUCKETS * n_targets];
        for (q, target) in targets.iter().enumerate() {
            let mut counts = vec![0u64; BUCKETS];
            for example in *target {
                words.for_each_bucket(example, |bucket| counts[bucket] += 1)?;
            }
            let logs = log_shares(&counts);
            for ((row, log), raw) in weights.chunks_exact_mut(n_targets).zip(&logs).zip(&raw) {
                row[q] = log - raw;
            }
        }
        Ok(Self { words, weights, n_targets })
    }

    /// Scores `examples`: one log importance weight per target.
    ///
    /// # Errors
    /// As [`NgramImportance::fit`], and errors of the sink.
    pub fn score(
        &self,
        examples: impl Iterator<Item = std::result::Result<Example, DataError>>,
        sink: &mut dyn ScoreSink,
    ) -> Result<()> {
        score_each(examples, self.n_targets, sink, |example, scores| {
            self.words.for_each_bucket(example, |bucket| {
                let row = &self.weights[bucket * self.n_targets..(bucket + 1) * self.n_targets];
                scores.iter_mut().zip(row).for_each(|(score, weight)| *score += weight);
            })
        })
    }
}

/// log(share + 1e-8) of each count; no count at all is a share of 0 everywhere.
fn log_shares(counts: &[u64]) -> Vec<f64> {
    let total = counts.iter().sum::<u64>().max(1) as f64;
    counts.iter().map(|&count| (count as f64 / total + SMOOTHING).ln()).collect()
}

/// Draws k of n without replacement, with probabilities in proportion to exp(log weight) of what is left: those of the
/// largest log weight + Gumbel noise, largest first. The noise of element i is addressed by (seed, i), so that a draw of
/// more elements begins with those of a draw of fewer.
pub fn gumbel_top_k(log_weights: &[f64], k: usize, seed: u64) -> Vec<usize> {
    let mut key = [0u8; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..14].copy_from_slice(b"gumbel");
    let start = ChaCha8Rng::from_seed(key);
    let noisy = |(i, weight): (usize, &f64)| {
        let mut rng = start.clone();
        rng.set_stream(i as u64);
        // In the middle of its step of 2⁻⁵³, u is neither 0 nor 1, and the noise finite.
        let u = rng.random::<f64>().min(1.0 - 2f64.powi(-52)) + 2f64.powi(-54);
        let noise = -(-u.ln()).ln();
        (weight + noise, i)
    };
    let mut order: Vec<(f64, usize)> = log_weights.iter().enumerate().map(noisy).collect();
    order.sort_by(|(a, i), (b, j)| b.total_cmp(a).then(i.cmp(j)));
    order.into_iter().take(k).map(|(_, i)| i).collect()
}
