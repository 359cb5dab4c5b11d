//! The whole pass: forward, objective, backward.

use etymon_tensor::{Backend, Buffer};

use super::Decoder;
use super::block::{Ctx, TokenRows};
use super::forward::Trace;
use crate::Result;
use crate::head::{self, HeadBatch};
use crate::params::Params;
use crate::tap::{Consumer, LossRows};

/// A stack of sequences, and what its rows that carry a loss term are compared with.
pub(crate) struct Stacked<'a, B: Backend> {
    pub ids: &'a [u32],
    pub rows: TokenRows<'a>,
    pub head: HeadBatch<'a, B>,
}

impl Decoder {
    /// The scalar of each row with a loss term, and everything that the consumer asks for.
    pub fn run<B: Backend>(
        &self,
        backend: &B,
        params: &Params<B>,
        batch: &Stacked<'_, B>,
        to: &mut Consumer<'_, B>,
    ) -> Result<Buffer<f64>> {
        let ctx = Ctx { backend, params, config: &self.config, rows: &batch.rows };
        let trace = self.forward(&ctx, batch.ids)?;
        let stream = ctx.loss_rows(&trace.out)?;
        let hidden = ctx.norm(self.final_norm, &stream)?;
        let (values, dhidden) = head::run(backend, params, &self.head, &hidden, &batch.head, to)?;
        if let Some(dhidden) = dhidden {
            self.backward(&ctx, batch.ids, &trace, &stream, &dhidden, to)?;
        }
        Ok(values)
    }

    /// From dhidden at the rows with a loss term down to the lowest layer that the consumer asks for.
    pub(super) fn backward<B: Backend>(
        &self,
        ctx: &Ctx<'_, B>,
        ids: &[u32],
        trace: &Trace<B>,
        stream: &B::Tensor,
        dhidden: &B::Tensor,
        to: &mut Consumer<'_, B>,
    ) -> Result<()> {
        let mut dx = ctx.norm_backward(self.final_norm, dhidden, stream, to)?;
        if let LossRows::Some(rows) = ctx.rows.loss_rows {
            dx = ctx.backend.scatter_rows(&dx, rows, ids.len())?;
        }
        let lowest = self.lowest_block(|layer| to.wants(layer));
        for (block, saved) in self.blocks.iter().zip(&trace.blocks).skip(lowest).rev() {
            dx = block.backward(ctx, saved, &dx, to)?;
        }
        if let Some(grads) = to.gradients() {
            if let Some(dtable) = grads.get_mut(self.embedding) {
                ctx.backend.embedding_backward(&dx, ids, dtable)?;
            }
            if let Some(dtable) = self.positions.and_then(|id| grads.get_mut(id)) {
                ctx.backend.embedding_backward(&dx, ctx.rows.positions, dtable)?;
            }
        }
        Ok(())
    }
}
