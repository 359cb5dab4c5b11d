//! Scores by chance: the baseline that says how much of a figure is luck.

use etymon_data::{DataError, Example};
use sha2::{Digest, Sha256};

use super::score_each;
use crate::{Result, ScoreSink};

/// Scores `examples` uniformly from [0, 1). A score depends on the seed, the query's id and the train example's id alone,
/// in steps of 2⁻²⁴.
///
/// # Errors
/// The errors of reading and of the sink.
pub fn score_random(
    seed: u64,
    queries: &[String],
    examples: impl Iterator<Item = std::result::Result<Example, DataError>>,
    sink: &mut dyn ScoreSink,
) -> Result<()> {
    let prefix = |query: &String| {
        // The length keeps apart ("a", "bc") and ("ab", "c").
        let head = Sha256::new().chain_update(b"random").chain_update(seed.to_le_bytes());
        head.chain_update((query.len() as u64).to_le_bytes()).chain_update(query)
    };
    let prefixes: Vec<Sha256> = queries.iter().map(prefix).collect();
    score_each(examples, queries.len(), sink, |example, scores| {
        for (prefix, score) in prefixes.iter().zip(scores) {
            let digest = prefix.clone().chain_update(&example.id).finalize();
            let bits = u32::from_le_bytes([digest[0], digest[1], digest[2], 0]);
            *score = f64::from(bits) / f64::from(1u32 << 24);
        }
        Ok(())
    })
}
