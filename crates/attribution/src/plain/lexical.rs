//! BM25 and TF-IDF: scores by shared tokens.

use etymon_data::{DataError, Example, Lexical};

use super::score_each;
use crate::{Result, ScoreSink};

/// Scores `examples` by the tokens that they share with the queries of `lexical`
/// ([`LexicalFormula`](etymon_data::LexicalFormula)), which counted the same train set. No model is needed.
///
/// # Errors
/// The errors of reading; rows of features are refused; errors of the sink.
pub fn score_lexical(
    lexical: &Lexical,
    examples: impl Iterator<Item = std::result::Result<Example, DataError>>,
    sink: &mut dyn ScoreSink,
) -> Result<()> {
    score_each(examples, lexical.n_queries(), sink, |example, scores| Ok(lexical.score(example, scores)?))
}
