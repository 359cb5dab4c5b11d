//! Candidate filters: which train examples are worth scoring for a query.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use crate::{Content, Corpus, DataError, Example, ExampleIndex, Result};

/// Saturation of the term frequency (Grosse et al. 2023, eq. 28).
const K1: f64 = 1.5;

/// A train example that a filter kept for a query.
#[derive(Copy, Clone, PartialEq, Debug)]
pub struct Candidate {
    /// Which example.
    pub index: ExampleIndex,
    /// Its score; larger is more similar.
    pub score: f64,
}

/// A filter by the tokens that query and train example share.
///
/// TF-IDF as in Grosse et al. 2023 (2308.03296), eq. 28-29: score(query, D) = Σ_{t in query} (k1+1)·e/(k1+e)·IDF(t) with
/// e = 1 if t is in D and 0 otherwise, k1 = 1.5, IDF(t) = log((C − count(t) + 0.5)/(count(t) + 0.5) + 1), count(t) = number
/// of the C train examples with t. The sum is over the tokens of the query, repeated ones repeatedly; all its tokens
/// count, prompt and completion.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct CandidateFilter {
    keep: usize,
    most: usize,
}

impl CandidateFilter {
    /// Keeps the `keep` train examples with the highest TF-IDF score per query (the paper: 10 000); of equal scores the
    /// smaller index.
    pub const fn tfidf(keep: usize) -> Self {
        Self { keep, most: usize::MAX }
    }

    /// Looks at the first `most` examples of the corpus only.
    #[must_use]
    pub const fn within(self, most: usize) -> Self {
        Self { most, ..self }
    }

    /// The kept examples of each query, ascending by index. Reads the corpus twice.
    ///
    /// # Errors
    /// The errors of reading the corpus; rows of features are refused.
    pub fn select(&self, corpus: &Corpus, queries: &[Example]) -> Result<Vec<Vec<ExampleIndex>>> {
        let mut selected = Vec::with_capacity(queries.len());
        for ranked in self.rank(corpus, queries)? {
            let mut indices: Vec<ExampleIndex> = ranked.into_iter().map(|candidate| candidate.index).collect();
            indices.sort_unstable();
            selected.push(indices);
        }
        Ok(selected)
    }

    /// The kept examples of each query with their scores, the best first. Reads the corpus twice.
    ///
    /// # Errors
    /// The errors of reading the corpus; rows of features are refused.
    pub fn rank(&self, corpus: &Corpus, queries: &[Example]) -> Result<Vec<Vec<Candidate>>> {
        let mut terms = Terms::of(queries)?;
        let mut distinct = Vec::new();
        let mut n_documents = 0u64;
        for example in corpus.examples().take(self.most) {
            distinct_tokens(&example?, &mut distinct)?;
            n_documents += 1;
            for token in &distinct {
                if let Some(term) = terms.by_token.get_mut(token) {
                    term.count += 1;
                }
            }
        }
        let mut best = vec![BinaryHeap::with_capacity(self.keep.min(1 << 16) + 1); queries.len()];
        let mut scores = vec![0.0; queries.len()];
        for example in corpus.examples().take(self.most) {
            let example = example?;
            distinct_tokens(&example, &mut distinct)?;
            scores.fill(0.0);
            for term in distinct.iter().filter_map(|token| terms.by_token.get(token)) {
                let weight = term.weight(n_documents);
                for &(query, times) in &term.queries {
                    scores[query] += times * weight;
                }
            }
            for (heap, &score) in best.iter_mut().zip(&scores) {
                self.offer(heap, Ranked { score, index: example.index });
            }
        }
        let ranked = |heap: BinaryHeap<Reverse<Ranked>>| {
            let sorted = heap.into_sorted_vec().into_iter();
            sorted.map(|Reverse(Ranked { score, index })| Candidate { index, score }).collect()
        };
        Ok(best.into_iter().map(ranked).collect())
    }

    fn offer(&self, heap: &mut BinaryHeap<Reverse<Ranked>>, ranked: Ranked) {
        if heap.len() < self.keep {
            heap.push(Reverse(ranked));
        } else if let Some(mut worst) = heap.peek_mut()
            && ranked > worst.0
        {
            worst.0 = ranked;
        }
    }
}

/// Train examples that any query kept, ascending: the ones to score.
pub fn union_of(selected: &[Vec<ExampleIndex>]) -> Vec<ExampleIndex> {
    let mut union: Vec<ExampleIndex> = selected.iter().flatten().copied().collect();
    union.sort_unstable();
    union.dedup();
    union
}

/// Higher score first, then the smaller index: the greater of two is the better one.
#[derive(Copy, Clone, PartialEq, Debug)]
struct Ranked {
    score: f64,
    index: ExampleIndex,
}

impl Eq for Ranked {}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.score.total_cmp(&other.score).then(other.index.cmp(&self.index))
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// The tokens of all queries.
struct Terms {
    by_token: BTreeMap<u32, Term>,
}

#[derive(Default)]
struct Term {
    /// Train examples with the token.
    count: u64,
    /// Queries with the token, and how often each has it.
    queries: Vec<(usize, f64)>,
}

impl Term {
    fn weight(&self, n_documents: u64) -> f64 {
        let (n, count, exists) = (n_documents as f64, self.count as f64, 1.0);
        let idf = ((n - count + 0.5) / (count + 0.5) + 1.0).ln();
        (K1 + 1.0) * exists / (K1 + exists) * idf
    }
}

impl Terms {
    fn of(queries: &[Example]) -> Result<Self> {
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
        Ok(Self { by_token })
    }
}

fn tokens(example: &Example) -> Result<&[u32]> {
    match &example.content {
        Content::Tokens { ids, .. } => Ok(ids),
        Content::Features { .. } => Err(DataError::NotTokens { id: example.id.clone() }),
    }
}

/// The tokens of an example, each once, ascending: sums over them do not depend on their order in the text.
fn distinct_tokens(example: &Example, distinct: &mut Vec<u32>) -> Result<()> {
    distinct.clear();
    distinct.extend_from_slice(tokens(example)?);
    distinct.sort_unstable();
    distinct.dedup();
    Ok(())
}
