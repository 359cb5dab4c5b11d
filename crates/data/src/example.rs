//! One row of a data set, as a model sees it and as a person reads it.

use serde_json::{Map, Value};

/// Position of a train example in its corpus, counted from 0 over the rows that are kept (bad rows are skipped first;
/// with packing, packs are counted).
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
pub struct ExampleIndex(pub u64);

impl std::fmt::Display for ExampleIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// What a row of features should be mapped to.
#[derive(Clone, PartialEq, Debug)]
pub enum Target {
    /// A class, counted from 0.
    Class(u32),
    /// `[d_out]` The numbers to predict.
    Values(Vec<f32>),
}

/// What a model reads.
#[derive(Clone, PartialEq, Debug)]
pub enum Content {
    /// A sequence of tokens.
    Tokens {
        /// `[n]` Token ids, n ≥ 2.
        ids: Vec<u32>,
        /// Tokens `loss_start..n` are predicted, each from the tokens before it; 1 ≤ `loss_start` < n.
        loss_start: usize,
    },
    /// A row of numbers with its label.
    Features {
        /// `[n_features]` Finite numbers.
        values: Vec<f32>,
        /// What they should be mapped to.
        target: Target,
    },
}

/// One train example or query.
#[derive(Clone, PartialEq, Debug)]
pub struct Example {
    /// Position in the corpus.
    pub index: ExampleIndex,
    /// Its `id` column, or the row number; `pack-I` for a pack.
    pub id: String,
    /// What a model reads.
    pub content: Content,
    /// What a person reads: the text, or prompt and completion; empty where the row has none.
    pub text: String,
    /// The other columns. A pack has `documents`: the ids of the rows that it holds (parts of).
    pub metadata: Map<String, Value>,
}

impl Example {
    /// Number of tokens; 0 for a row of features.
    pub fn n_tokens(&self) -> usize {
        self.token_ids().len()
    }

    /// `[n]` The token ids; empty for a row of features.
    pub fn token_ids(&self) -> &[u32] {
        match &self.content {
            Content::Tokens { ids, .. } => ids,
            Content::Features { .. } => &[],
        }
    }

    /// Number of rows that the example takes in a batch without padding: n − 1 for n tokens (the last one is only
    /// predicted), 1 for a row of features.
    pub fn n_rows(&self) -> usize {
        match &self.content {
            Content::Tokens { ids, .. } => ids.len().saturating_sub(1),
            Content::Features { .. } => 1,
        }
    }

    /// Number of rows that carry a loss term.
    pub fn n_loss_rows(&self) -> usize {
        match &self.content {
            Content::Tokens { ids, loss_start } => ids.len().saturating_sub(*loss_start),
            Content::Features { .. } => 1,
        }
    }
}
