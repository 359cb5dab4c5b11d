//! Scores by the tokens that a query and a train example share.

use std::collections::BTreeMap;

use crate::{Content, DataError, Example, Result};

/// Saturation of the term frequency, in both formulas.
const K1: f64 = 1.5;
/// How much the length of a document counts in BM25.
const B: f64 = 0.75;

/// How shared tokens are weighed. In both, the sum is over the tokens t of the query (prompt and completion), repeated
/// ones repeatedly; n is the number of train examples, count(t) of those with t, and
/// IDF(t) = log((n − count(t) + 0.5)/(count(t) + 0.5) + 1), which is never negative.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum LexicalFormula {
    /// Grosse et al. 2023 (2308.03296), eq. 28-29: Σ (k1+1)·e/(k1+e)·IDF(t), e = 1 if t is in the example and 0
    /// otherwise, k1 = 1.5. How often, and among how many tokens, does not matter.
    TfIdf,
    /// Okapi BM25 (Robertson and Zaragoza 2009): Σ (k1+1)·f/(k1·(1 − b + b·l/l̄) + f)·IDF(t), f = how often t is in the
    /// example, l = tokens of the example, l̄ = mean of l over the train set, k1 = 1.5, b = 0.75. The IDF is that of
    /// Lucene, log(1 + …): the original is negative for tokens that more than half of the examples have.
    Bm25,
}

/// A train set seen from the tokens of some queries: what is needed to score its examples.
#[derive(Clone, Debug)]
pub struct Lexical {
    formula: LexicalFormula,
    by_token: BTreeMap<u32, Term>,
    n_queries: usize,
    n_documents: u64,
    n_tokens: u64,
}

#[derive(Clone, Debug, Default)]
struct Term {
    /// Train examples with the token.
    count: u64,
    /// Queries with the token, and how often each has it.
    queries: Vec<(usize, f64)>,
}

impl Lexical {
    /// Counts the tokens of `queries` in the train set. Holds one number per distinct token of the queries.
    ///
    /// # Errors
    /// The errors of reading the train set; rows of features are refused.
    pub fn count(
        formula: LexicalFormula,
        queries: &[Example],
        examples: impl Iterator<Item = Result<Example>>,
    ) -> Result<Self> {
        let by_token = terms(queries)?;
        let mut lexical = Self { formula, by_token, n_queries: queries.len(), n_documents: 0, n_tokens: 0 };
        let mut sorted = Vec::new();
        for example in examples {
            sort_tokens(&example?, &mut sorted)?;
            lexical.n_documents += 1;
            lexical.n_tokens += sorted.len() as u64;
            for group in sorted.chunk_by(|a, b| a == b) {
                if let Some(term) = lexical.by_token.get_mut(&group[0]) {
                    term.count += 1;
                }
            }
        }
        Ok(lexical)
    }

    /// Number of queries.
    pub fn n_queries(&self) -> usize {
        self.n_queries
    }

    /// Writes the scores `[Q]` of a train example on each query.
    ///
    /// # Errors
    /// Rows of features are refused.
    pub fn score(&self, example: &Example, scores: &mut [f64]) -> Result<()> {
        let mut sorted = Vec::new();
        sort_tokens(example, &mut sorted)?;
        scores.fill(0.0);
        for group in sorted.chunk_by(|a, b| a == b) {
            let Some(term) = self.by_token.get(&group[0]) else { continue };
            let weight = self.idf(term) * self.saturation(group.len() as f64, sorted.len() as f64);
            for &(query, times) in &term.queries {
                scores[query] += times * weight;
            }
        }
        Ok(())
    }

    fn idf(&self, term: &Term) -> f64 {
        let (n, count) = (self.n_documents as f64, term.count as f64);
        ((n - count + 0.5) / (count + 0.5) + 1.0).ln()
    }

    fn saturation(&self, times: f64, length: f64) -> f64 {
        match self.formula {
            // (k1+1)·e/(k1+e) of e = 1.
            LexicalFormula::TfIdf => 1.0,
            LexicalFormula::Bm25 => {
                let mean = self.n_tokens as f64 / self.n_documents as f64;
                (K1 + 1.0) * times / (K1 * (1.0 - B + B * length / mean) + times)
            }
        }
    }
}

fn terms(queries: &[Example]) -> Result<BTreeMap<u32, Term>> {
    let mut by_token: BTreeMap<u32, Term> = BTreeMap::new();
    for (query, example) in queries.iter().enumerate() {
        for &token in tokens(example)? {
            let queries = &mut by_token.entry(token).or_default().queries;
            match queries.last_mut() {
                Some((last, times)) if *last == query => *times += 1.0,
                _ => queries.push((query, 1.0)),
            }
        }
    }
    Ok(by_token)
}

fn tokens(example: &Example) -> Result<&[u32]> {
    match &example.content {
        Content::Tokens { ids, .. } => Ok(ids),
        Content::Features { .. } => Err(DataError::NotTokens { id: example.id.clone() }),
    }
}

/// The tokens of an example, ascending: sums over them do not depend on their order in the text.
fn sort_tokens(example: &Example, sorted: &mut Vec<u32>) -> Result<()> {
    sorted.clear();
    sorted.extend_from_slice(tokens(example)?);
    sorted.sort_unstable();
    Ok(())
}
