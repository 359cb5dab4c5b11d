//! Scores without gradients, the baselines of the field: shared tokens, n-grams, hidden states, chance.

mod features;
mod lexical;
mod ngrams;
mod random;
mod words;

use etymon_data::{DataError, Example};
use etymon_tensor::Buffer;

pub use features::{FeatureQueries, FeatureSimilarity, score_features};
pub use lexical::score_lexical;
pub use ngrams::{NgramImportance, gumbel_top_k};
pub use random::score_random;
pub use words::BUCKETS;

use crate::pass::{BatchScores, Columns, WindowScores};
use crate::{Result, ScoreSink};

/// Examples of a block where no batch cuts them.
const BLOCK: usize = 1024;

/// Gives the sink the scores of all examples, in order; `score` writes those of one example on all queries, `[Q]`.
fn score_each(
    examples: impl Iterator<Item = std::result::Result<Example, DataError>>,
    n_queries: usize,
    sink: &mut dyn ScoreSink,
    mut score: impl FnMut(&Example, &mut [f64]) -> Result<()>,
) -> Result<()> {
    let mut examples = examples.peekable();
    while examples.peek().is_some() {
        let block = examples.by_ref().take(BLOCK).collect::<std::result::Result<Vec<_>, _>>()?;
        let mut totals = Buffer::zeros(block.len() * n_queries);
        for (example, scores) in block.iter().zip(totals.chunks_exact_mut(n_queries.max(1))) {
            score(example, scores)?;
        }
        let mut window = WindowScores::new(block.len(), Columns::of(n_queries));
        window.put(&(0..block.len()).collect::<Vec<_>>(), BatchScores { totals, ..BatchScores::default() });
        window.emit(&block, sink)?;
    }
    Ok(())
}
