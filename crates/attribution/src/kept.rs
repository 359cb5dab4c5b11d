//! The prepared queries of one layer, as they are kept.

use etymon_curvature::LayerPreconditioner;
use etymon_model::LayerSpec;
use etymon_tensor::{Folds, Shape, Transpose};

use crate::low_rank::{LowRank, truncated_svd};
use crate::{AttributionError, Result};

/// Seed of the random start of the singular value decompositions. One for all layers: their numbers depend on the group of
/// layers that the model taps.
const SVD_SEED: u64 = 0;

/// The prepared queries of one layer.
#[derive(Clone, Debug)]
pub enum LayerQueries<B: Folds> {
    /// `[Q, d_out · d_in]`.
    Full(B::Tensor),
    /// Factors of rank r: `[Q · r, d_out]` and `[Q · r, d_in]`.
    Low {
        /// Left factors.
        u: B::Tensor,
        /// Right factors.
        v: B::Tensor,
        /// r.
        rank: usize,
    },
}

impl<B: Folds> LayerQueries<B> {
    /// Keeps M `[d_out, d_in]` as the prepared gradient of a query; M is in the eigenbasis of `damped`, if there is one.
    pub(crate) fn keep(
        &mut self,
        backend: &B,
        spec: &LayerSpec,
        query: usize,
        m: B::Tensor,
        damped: Option<&LayerPreconditioner<B>>,
    ) -> Result<()> {
        let rank = match self {
            Self::Full(all) => {
                let p = match damped {
                    Some(damped) => damped.factors.rotate_back(backend, &m)?,
                    None => m,
                };
                let flat = Shape::new(1, backend.shape(&p).len());
                return Ok(backend.write_rows(all, query, &backend.reshape(p, flat)?)?);
            }
            Self::Low { rank, .. } => *rank,
        };
        let Some(LowRank { u: mut left, v: mut right }) = truncated_svd(backend, &m, rank, SVD_SEED)? else {
            return Err(AttributionError::Svd { layer: spec.name.clone() });
        };
        if let Some(damped) = damped {
            left = backend.matmul(&left, Transpose::No, &damped.factors.q_s, Transpose::Yes)?;
            right = backend.matmul(&right, Transpose::No, &damped.factors.q_a, Transpose::Yes)?;
        }
        self.keep_factors(backend, query, &left, &right)
    }

    /// Keeps Uᵀ V of U `[≤ r, d_out]` and V `[≤ r, d_in]` as the prepared gradient of a query.
    pub(crate) fn keep_factors(
        &mut self,
        backend: &B,
        query: usize,
        left: &B::Tensor,
        right: &B::Tensor,
    ) -> Result<()> {
        if let Self::Low { u, v, rank } = self {
            backend.write_rows(u, query * *rank, left)?;
            backend.write_rows(v, query * *rank, right)?;
        }
        Ok(())
    }
}

/// Refuses a prepared gradient that is not finite.
pub(crate) fn require_finite<B: Folds>(backend: &B, id: &str, spec: &LayerSpec, m: &B::Tensor) -> Result<()> {
    if backend.dot(m, m)?.is_finite() {
        return Ok(());
    }
    let what = format!("its preconditioned gradient at layer `{}`", spec.name);
    Err(AttributionError::NotFinite { id: id.to_owned(), what })
}
