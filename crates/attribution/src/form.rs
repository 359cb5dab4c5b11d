//! How the prepared queries of a layer are kept: as matrices, truncated, or by their own rows.

use etymon_model::LayerSpec;
use etymon_tensor::{Contraction, Folds, Shape};

use crate::kept::LayerQueries;

/// At what rank preconditioned query gradients are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rank {
    /// Their own.
    Full,
    /// Truncated to this rank (Grosse et al. 2023 use 32).
    Low(usize),
}

/// How the queries of a layer are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// As matrices `[d_out, d_in]`.
    Full,
    /// Truncated to this rank.
    Truncated(usize),
    /// By their own rows of Ds and ā, this many at most, whose product is the gradient: as long as no curvature turns it.
    Rows(usize),
}

impl Form {
    /// By counted operations of the pass over a train set that is like the queries; `rows` are those of the longest query,
    /// where no curvature is applied.
    pub fn of(spec: &LayerSpec, n_queries: usize, rank: Rank, rows: Option<usize>) -> Self {
        let weight = Shape::new(spec.d_out, spec.d_in);
        let rows = rows.map(|rows| rows * spec.positions);
        match (rank, rows) {
            (Rank::Full, Some(rows)) if Contraction::by_query_rows(weight, n_queries, rows) => Self::Rows(rows),
            (Rank::Full, _) => Self::Full,
            (Rank::Low(r), Some(rows)) if rows <= r => Self::Rows(rows),
            (Rank::Low(r), _) => Self::Truncated(r.min(spec.d_out).min(spec.d_in)),
        }
    }

    /// Zeros for the queries of a layer.
    pub fn empty<B: Folds>(self, backend: &B, spec: &LayerSpec, n: usize) -> LayerQueries<B> {
        match self {
            Self::Full => LayerQueries::Full(backend.zeros(Shape::new(n, spec.d_out * spec.d_in))),
            Self::Truncated(rank) | Self::Rows(rank) => {
                let zeros = |d| backend.zeros(Shape::new(n * rank, d));
                LayerQueries::Low { u: zeros(spec.d_out), v: zeros(spec.d_in), rank }
            }
        }
    }
}
