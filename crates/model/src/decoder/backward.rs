//! The whole pass: forward, objective, backward.

use etymon_tensor::{Backend, Buffer, CrossEntropy, Label, Segment};

use super::Decoder;
use super::block::{Ctx, TokenRows};
use super::forward::Trace;
use crate::Result;
use crate::head::{self, HeadBatch};
use crate::params::Params;
use crate::tap::{Consumer, LossRows};

/// A stack of sequences with a label at every row that carries a loss term.
pub(crate) struct Labelled<'a> {
    pub ids: &'a [u32],
    pub rows: TokenRows<'a>,
    pub labels: &'a [Label],
    /// Range into `labels` of each example.
    pub loss_segments: &'a [Segment],
    pub kind: CrossEntropy,
}

impl Decoder {
    /// The scalar of each label, and everything that the consumer asks for.
    pub fn run<B: Backend>(
        &self,
        backend: &B,
        params: &Params<B>,
        batch: &Labelled<'_>,
        to: &mut Consumer<'_, B>,
    ) -> Result<Buffer<f64>> {
        let ctx = Ctx { backend, params, config: &self.config, rows: &batch.rows };
        let trace = self.forward(&ctx, batch.ids)?;
        let stream = match batch.rows.loss_rows {
            LossRows::All => trace.out.clone(),
            LossRows::Some(rows) => backend.gather_rows(&trace.out, rows)?,
        };
        let hidden = ctx.norm(self.final_norm, &stream)?;
        let at = HeadBatch { labels: batch.labels, loss_segments: batch.loss_segments, kind: batch.kind };
        let (values, dhidden) = head::run(backend, params, &self.head, &hidden, &at, to)?;
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
