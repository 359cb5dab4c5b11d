//! Forward mode: the tangent of the residual stream along a direction of the tapped weights, and Gauss-Newton products.

use etymon_tensor::{Backend, Segment};

use super::block::{Ctx, Saved, SavedMlp, TokenRows};
use super::forward::Trace;
use super::{Block, Decoder, MlpLayers, NormParams, Qkv};
use crate::Result;
use crate::config::Residual;
use crate::head;
use crate::layers::Linear;
use crate::params::Params;
use crate::tangent::Tangents;
use crate::tap::Consumer;

impl Decoder {
    /// Hands ā and the Ds of Gauss-Newton products to the consumers, one for each direction: Σ over its rows of Ds āᵀ is
    /// Jᵀ H J dW, for the direction dW of all tapped layers, J the Jacobian of the logits, and H the Hessian of cross entropy
    /// in them. The forward pass is shared.
    pub fn gauss_newton<B: Backend>(
        &self,
        (backend, params): (&B, &Params<B>),
        tangents: &[Tangents<'_, B>],
        ids: &[u32],
        (rows, loss_segments): (&TokenRows<'_>, &[Segment]),
        to: &mut [Consumer<'_, B>],
    ) -> Result<()> {
        let ctx = Ctx { backend, params, config: &self.config, rows };
        let trace = self.forward(&ctx, ids)?;
        let stream = ctx.loss_rows(&trace.out)?;
        let hidden = ctx.norm(self.final_norm, &stream)?;
        let moved = |tangents: &Tangents<'_, B>| match self.stream_tangent(&ctx, &trace, tangents)? {
            Some(dout) => Ok(Some(ctx.norm_tangent(self.final_norm, &ctx.loss_rows(&dout)?, &stream)?)),
            None => Ok(None),
        };
        let dhidden = tangents.iter().map(moved).collect::<Result<Vec<_>>>()?;
        let back = head::gauss_newton(tangents, &self.head, (&hidden, &dhidden), loss_segments, to)?;
        for (back, to) in back.iter().zip(to) {
            self.backward(&ctx, ids, &trace, &stream, back, to)?;
        }
        Ok(())
    }

    /// `[T, d]` The tangent of the stream after the last block; none when no block is tapped.
    fn stream_tangent<B: Backend>(
        &self,
        ctx: &Ctx<'_, B>,
        trace: &Trace<B>,
        tangents: &Tangents<'_, B>,
    ) -> Result<Option<B::Tensor>> {
        let lowest = self.lowest_block(Linear::is_tapped);
        let mut dx = None;
        for (block, saved) in self.blocks.iter().zip(&trace.blocks).skip(lowest) {
            dx = Some(block.tangent(ctx, saved, dx.as_ref(), tangents)?);
        }
        Ok(dx)
    }
}

impl<B: Backend> Ctx<'_, B> {
    fn norm_tangent(&self, norm: NormParams, dx: &B::Tensor, x: &B::Tensor) -> Result<B::Tensor> {
        let (gain, eps) = (self.params.get(norm.gain), self.config.norm_eps);
        Ok(match norm.shift {
            Some(_) => self.backend.layer_norm_jvp(dx, x, gain, eps)?,
            None => self.backend.rms_norm_jvp(dx, x, gain, eps)?,
        })
    }
}

impl Block {
    /// Tangent of the block's output `[T, d]` from that of its input, if it has one.
    fn tangent<B: Backend>(
        &self,
        ctx: &Ctx<'_, B>,
        saved: &Saved<B>,
        dx: Option<&B::Tensor>,
        tangents: &Tangents<'_, B>,
    ) -> Result<B::Tensor> {
        let norm = |norm, dx: Option<&B::Tensor>, x| dx.map(|dx| ctx.norm_tangent(norm, dx, x)).transpose();
        let dnormed = norm(self.norm_attention, dx, &saved.x)?;
        let [dq, dk, dv] = self.qkv_tangent(ctx, &saved.normed, dnormed.as_ref(), tangents)?;
        let [q, k, v] = &saved.qkv;
        let segments = ctx.rows.segments;
        let dmixed = ctx.backend.attention_jvp(&self.attention, [q, k, v], [&dq, &dk, &dv], segments)?;
        let mut dout = tangents.linear(&self.output, &saved.mixed, Some(&dmixed))?;
        if let Some(dx) = dx {
            ctx.backend.axpy(1.0, dx, &mut dout)?;
        }
        let into_mlp = match ctx.config.residual {
            Residual::Parallel => norm(self.norm_mlp, dx, &saved.x)?,
            Residual::Sequential => norm(self.norm_mlp, Some(&dout), saved.middle.as_ref().unwrap_or(&saved.x))?,
        };
        let branch = self.mlp.tangent(ctx, &saved.mlp, into_mlp.as_ref(), tangents)?;
        ctx.backend.axpy(1.0, &branch, &mut dout)?;
        Ok(dout)
    }

    fn qkv_tangent<B: Backend>(
        &self,
        ctx: &Ctx<'_, B>,
        normed: &B::Tensor,
        dnormed: Option<&B::Tensor>,
        tangents: &Tangents<'_, B>,
    ) -> Result<[B::Tensor; 3]> {
        let linear = |layer| tangents.linear(layer, normed, dnormed);
        let mut qkv = match &self.qkv {
            Qkv::Separate(layers) => {
                let [q, k, v] = &**layers;
                [linear(q)?, linear(k)?, linear(v)?]
            }
            Qkv::Fused(layer) => self.split(ctx, &linear(layer)?)?,
        };
        ctx.rotate(&mut qkv[0], false)?;
        ctx.rotate(&mut qkv[1], false)?;
        Ok(qkv)
    }
}

impl MlpLayers {
    fn tangent<B: Backend>(
        &self,
        ctx: &Ctx<'_, B>,
        saved: &SavedMlp<B>,
        dnormed: Option<&B::Tensor>,
        tangents: &Tangents<'_, B>,
    ) -> Result<B::Tensor> {
        let dup = tangents.linear(&self.up, &saved.normed, dnormed)?;
        let dhidden = match (&self.gate, &saved.gate) {
            (Some(layer), Some(gate)) => {
                let dgate = tangents.linear(layer, &saved.normed, dnormed)?;
                ctx.backend.gated_jvp(self.activation, gate, &saved.up, &dgate, &dup)?
            }
            _ => ctx.backend.activation_backward(self.activation, &dup, &saved.up)?,
        };
        tangents.linear(&self.down, &saved.hidden, Some(&dhidden))
    }
}
