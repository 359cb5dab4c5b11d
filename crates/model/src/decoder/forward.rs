//! From token ids to the last hidden states and logits.

use etymon_tensor::Backend;

use super::Decoder;
use super::block::{Ctx, Saved, TokenRows};
use crate::Result;
use crate::params::Params;

/// What the backward pass needs of a forward pass through all blocks.
pub(super) struct Trace<B: Backend> {
    pub blocks: Vec<Saved<B>>,
    /// `[T, d]` the residual stream after the last block.
    pub out: B::Tensor,
}

impl Decoder {
    pub(super) fn forward<B: Backend>(&self, ctx: &Ctx<'_, B>, ids: &[u32]) -> Result<Trace<B>> {
        let mut x = ctx.backend.embedding_forward(ctx.params.get(self.embedding), ids)?;
        if let Some(table) = self.positions {
            let at = ctx.backend.embedding_forward(ctx.params.get(table), ctx.rows.positions)?;
            ctx.backend.axpy(1.0, &at, &mut x)?;
        }
        let mut blocks = Vec::with_capacity(self.blocks.len());
        for block in &self.blocks {
            let (out, saved) = block.forward(ctx, x)?;
            blocks.push(saved);
            x = out;
        }
        Ok(Trace { blocks, out: x })
    }

    /// The last hidden states `[wanted.len(), d]`, after the final norm, of the given rows of a stack of sequences.
    pub fn hidden<B: Backend>(
        &self,
        backend: &B,
        params: &Params<B>,
        ids: &[u32],
        rows: &TokenRows<'_>,
        wanted: &[usize],
    ) -> Result<B::Tensor> {
        let ctx = Ctx { backend, params, config: &self.config, rows };
        let out = self.forward(&ctx, ids)?.out;
        ctx.norm(self.final_norm, &backend.gather_rows(&out, wanted)?)
    }

    /// Logits `[wanted.len(), vocab]` after the given rows of a stack of sequences.
    pub fn logits<B: Backend>(
        &self,
        backend: &B,
        params: &Params<B>,
        ids: &[u32],
        rows: &TokenRows<'_>,
        wanted: &[usize],
    ) -> Result<B::Tensor> {
        let hidden = self.hidden(backend, params, ids, rows, wanted)?;
        Ctx { backend, params, config: &self.config, rows }.linear(&self.head, &hidden)
    }
}
