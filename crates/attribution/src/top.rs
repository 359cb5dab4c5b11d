//! The strongest proponents and opponents of each query, kept while scores stream by.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;

use etymon_data::Example;

use crate::{Result, ScoreBlock, ScoreSink};

/// A train example with its score on one query.
#[derive(Clone, Debug)]
pub struct Entry {
    /// I(q, m).
    pub score: f32,
    /// The example.
    pub example: Arc<Example>,
}

/// Proponents by falling score, opponents by rising score; ties by position in the train set.
#[derive(Clone, Debug, Default)]
pub struct Ranked {
    /// Highest scores first.
    pub proponents: Vec<Entry>,
    /// Lowest scores first.
    pub opponents: Vec<Entry>,
}

/// Keeps the k highest and the k lowest scores of each query.
#[derive(Debug)]
pub struct TopK {
    k: usize,
    queries: Vec<(Kept, Kept)>,
}

impl TopK {
    /// Nothing yet.
    pub fn new(k: usize, n_queries: usize) -> Self {
        Self { k, queries: (0..n_queries).map(|_| Default::default()).collect() }
    }

    /// The lists, one per query.
    pub fn finish(self) -> Vec<Ranked> {
        let list = |kept: Kept, sign: f32| {
            let entry = |held: Held| Entry { score: sign * held.key, example: held.example };
            kept.0.into_iter().map(entry).collect()
        };
        let ranked = |(high, low)| Ranked { proponents: list(high, 1.0), opponents: list(low, -1.0) };
        self.queries.into_iter().map(ranked).collect()
    }
}

impl ScoreSink for TopK {
    fn block(&mut self, block: &ScoreBlock<'_>) -> Result<()> {
        let n_queries = self.queries.len();
        for (i, example) in block.examples.iter().enumerate() {
            let mut shared = None;
            let row = &block.scores[i * n_queries..(i + 1) * n_queries];
            for (&score, (high, low)) in row.iter().zip(&mut self.queries) {
                high.offer(self.k, score, example, &mut shared);
                low.offer(self.k, -score, example, &mut shared);
            }
        }
        Ok(())
    }
}

/// The k largest keys, largest first.
#[derive(Debug, Default)]
struct Kept(BTreeSet<Held>);

impl Kept {
    /// `shared` holds the one copy of the example that all lists point to.
    fn offer(&mut self, k: usize, key: f32, example: &Example, shared: &mut Option<Arc<Example>>) {
        let worse_than_last = self.0.last().is_some_and(|last| key.total_cmp(&last.key).is_le());
        if k == 0 || key.is_nan() || (self.0.len() >= k && worse_than_last) {
            return;
        }
        let example = Arc::clone(shared.get_or_insert_with(|| Arc::new(example.clone())));
        self.0.insert(Held { key, example });
        if self.0.len() > k {
            self.0.pop_last();
        }
    }
}

#[derive(Debug)]
struct Held {
    key: f32,
    example: Arc<Example>,
}

impl Ord for Held {
    fn cmp(&self, other: &Self) -> Ordering {
        other.key.total_cmp(&self.key).then(self.example.index.cmp(&other.example.index))
    }
}

impl PartialOrd for Held {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Held {}
