//! Candidate filters: which train examples are worth scoring for a query.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::{Corpus, Example, ExampleIndex, Lexical, LexicalFormula, Result};

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
/// By [`LexicalFormula::TfIdf`], as in Grosse et al. 2023.
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
        let lexical = Lexical::count(LexicalFormula::TfIdf, queries, corpus.examples().take(self.most))?;
        let mut best = vec![BinaryHeap::with_capacity(self.keep.min(1 << 16) + 1); queries.len()];
        let mut scores = vec![0.0; queries.len()];
        for example in corpus.examples().take(self.most) {
            let example = example?;
            lexical.score(&example, &mut scores)?;
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
