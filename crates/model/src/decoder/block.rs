//! One block: forward keeps what backward needs, backward gives dx and hands every linear layer to the consumer.

use etymon_tensor::{Backend, RotaryStyle, Segment};

use super::{Block, MlpLayers, NormParams, Qkv};
use crate::Result;
use crate::config::{DecoderConfig, Positions, Residual};
use crate::layers::Linear;
use crate::params::Params;
use crate::tap::{Consumer, LossRows, Rows};

/// The rows of a batch of sequences.
pub(crate) struct TokenRows<'a> {
    pub positions: &'a [u32],
    pub segments: &'a [Segment],
    pub loss_rows: LossRows<'a>,
}

impl<'a> TokenRows<'a> {
    fn all(&self) -> Rows<'a> {
        Rows { segments: self.segments, first_example: 0, loss_rows: self.loss_rows }
    }
}

/// What a block's backward needs of its forward.
pub(super) struct Saved<B: Backend> {
    /// `[T, d]` input of the block.
    pub(super) x: B::Tensor,
    /// `[T, d]` its norm, input of q, k, v.
    pub(super) normed: B::Tensor,
    /// `[T, heads · head_dim]` and `[T, kv_heads · head_dim]` twice, after the rotation.
    pub(super) qkv: [B::Tensor; 3],
    /// `[T, heads · head_dim]` input of the output projection.
    pub(super) mixed: B::Tensor,
    /// `[T, d]` input of the MLP's norm (sequential residual only; else it is `x`).
    pub(super) middle: Option<B::Tensor>,
    pub(super) mlp: SavedMlp<B>,
}

pub(super) struct SavedMlp<B: Backend> {
    pub(super) normed: B::Tensor,
    pub(super) gate: Option<B::Tensor>,
    pub(super) up: B::Tensor,
    pub(super) hidden: B::Tensor,
}

/// The model parts that forward and backward share.
pub(super) struct Ctx<'a, B: Backend> {
    pub backend: &'a B,
    pub params: &'a Params<B>,
    pub config: &'a DecoderConfig,
    pub rows: &'a TokenRows<'a>,
}

impl<B: Backend> Ctx<'_, B> {
    /// The rows of x `[T, d]` that carry a loss term.
    pub fn loss_rows(&self, x: &B::Tensor) -> Result<B::Tensor> {
        Ok(match self.rows.loss_rows {
            LossRows::All => x.clone(),
            LossRows::Some(rows) => self.backend.gather_rows(x, rows)?,
        })
    }

    pub fn norm(&self, norm: NormParams, x: &B::Tensor) -> Result<B::Tensor> {
        let (gain, eps) = (self.params.get(norm.gain), self.config.norm_eps);
        Ok(match norm.shift {
            Some(shift) => self.backend.layer_norm_forward(x, gain, self.params.get(shift), eps)?,
            None => self.backend.rms_norm_forward(x, gain, eps)?,
        })
    }

    pub fn norm_backward(
        &self,
        norm: NormParams,
        dy: &B::Tensor,
        x: &B::Tensor,
        to: &mut Consumer<'_, B>,
    ) -> Result<B::Tensor> {
        let (gain, eps) = (self.params.get(norm.gain), self.config.norm_eps);
        Ok(match norm.shift {
            Some(shift) => self.backend.layer_norm_backward(dy, x, gain, eps, to.pair(norm.gain, shift))?,
            None => {
                let dgain = to.gradients().and_then(|g| g.get_mut(norm.gain));
                self.backend.rms_norm_backward(dy, x, gain, eps, dgain)?
            }
        })
    }

    pub fn linear(&self, layer: &Linear, x: &B::Tensor) -> Result<B::Tensor> {
        layer.forward(self.backend, self.params, x)
    }

    /// Hands the layer to the consumer and returns dx.
    fn linear_backward(
        &self,
        layer: &Linear,
        dy: &B::Tensor,
        x: &B::Tensor,
        to: &mut Consumer<'_, B>,
    ) -> Result<B::Tensor> {
        layer.hand_to(to, (self.backend, self.params), x, dy, self.rows.all())?;
        layer.backward(self.backend, self.params, dy)
    }

    pub(super) fn rotate(&self, x: &mut B::Tensor, inverse: bool) -> Result<()> {
        if let Positions::Rotary(rope) = &self.config.positions {
            let (dim, at) = (self.config.head_dim, self.rows.positions);
            self.backend.rotary(x, dim, at, &rope.frequencies, RotaryStyle::Halves, inverse)?;
        }
        Ok(())
    }
}

impl Block {
    pub(super) fn forward<B: Backend>(&self, ctx: &Ctx<'_, B>, x: B::Tensor) -> Result<(B::Tensor, Saved<B>)> {
        let normed = ctx.norm(self.norm_attention, &x)?;
        let qkv = self.qkv_forward(ctx, &normed)?;
        let [q, k, v] = &qkv;
        let mixed = ctx.backend.attention_forward(&self.attention, q, k, v, ctx.rows.segments)?;
        let mut out = ctx.linear(&self.output, &mixed)?;
        ctx.backend.axpy(1.0, &x, &mut out)?;
        if ctx.config.residual == Residual::Parallel {
            let (branch, mlp) = self.mlp.forward(ctx, ctx.norm(self.norm_mlp, &x)?)?;
            ctx.backend.axpy(1.0, &branch, &mut out)?;
            return Ok((out, Saved { x, normed, qkv, mixed, middle: None, mlp }));
        }
        let middle = out;
        let (mut out, mlp) = self.mlp.forward(ctx, ctx.norm(self.norm_mlp, &middle)?)?;
        ctx.backend.axpy(1.0, &middle, &mut out)?;
        Ok((out, Saved { x, normed, qkv, mixed, middle: Some(middle), mlp }))
    }

    /// dx `[T, d]` from dy `[T, d]`.
    pub(super) fn backward<B: Backend>(
        &self,
        ctx: &Ctx<'_, B>,
        saved: &Saved<B>,
        dy: &B::Tensor,
        to: &mut Consumer<'_, B>,
    ) -> Result<B::Tensor> {
        let dnormed = self.mlp.backward(ctx, &saved.mlp, dy, to)?;
        let into_norm = saved.middle.as_ref().unwrap_or(&saved.x);
        let from_mlp = ctx.norm_backward(self.norm_mlp, &dnormed, into_norm, to)?;
        let mut dx = from_mlp;
        ctx.backend.axpy(1.0, dy, &mut dx)?;
        let dattention = if ctx.config.residual == Residual::Sequential { &dx } else { dy };
        let dmixed = ctx.linear_backward(&self.output, dattention, &saved.mixed, to)?;
        let dnormed = self.attention_backward(ctx, saved, &dmixed, to)?;
        ctx.backend.axpy(1.0, &ctx.norm_backward(self.norm_attention, &dnormed, &saved.x, to)?, &mut dx)?;
        Ok(dx)
    }

    fn qkv_forward<B: Backend>(&self, ctx: &Ctx<'_, B>, normed: &B::Tensor) -> Result<[B::Tensor; 3]> {
        let mut qkv = match &self.qkv {
            Qkv::Separate(layers) => {
                let [q, k, v] = &**layers;
                [ctx.linear(q, normed)?, ctx.linear(k, normed)?, ctx.linear(v, normed)?]
            }
            Qkv::Fused(layer) => self.split(ctx, &ctx.linear(layer, normed)?)?,
        };
        ctx.rotate(&mut qkv[0], false)?;
        ctx.rotate(&mut qkv[1], false)?;
        Ok(qkv)
    }

    /// q, k and v of q | k | v.
    pub(super) fn split<B: Backend>(&self, ctx: &Ctx<'_, B>, all: &B::Tensor) -> Result<[B::Tensor; 3]> {
        let (q, kv) = self.widths();
        let part = |start, width| ctx.backend.slice_cols(all, start, width);
        Ok([part(0, q)?, part(q, kv)?, part(q + kv, kv)?])
    }

    /// dmixed `[T, heads · head_dim]` → gradient of the normed input `[T, d]`.
    fn attention_backward<B: Backend>(
        &self,
        ctx: &Ctx<'_, B>,
        saved: &Saved<B>,
        dmixed: &B::Tensor,
        to: &mut Consumer<'_, B>,
    ) -> Result<B::Tensor> {
        let [q, k, v] = &saved.qkv;
        let (mut dq, mut dk, dv) =
            ctx.backend.attention_backward(&self.attention, dmixed, q, k, v, ctx.rows.segments)?;
        ctx.rotate(&mut dq, true)?;
        ctx.rotate(&mut dk, true)?;
        match &self.qkv {
            Qkv::Fused(layer) => {
                let all = ctx.backend.concat_cols(&[&dq, &dk, &dv])?;
                ctx.linear_backward(layer, &all, &saved.normed, to)
            }
            Qkv::Separate(layers) => {
                let [lq, lk, lv] = &**layers;
                let mut dnormed = ctx.linear_backward(lv, &dv, &saved.normed, to)?;
                for (layer, d) in [(lk, &dk), (lq, &dq)] {
                    let part = ctx.linear_backward(layer, d, &saved.normed, to)?;
                    ctx.backend.axpy(1.0, &part, &mut dnormed)?;
                }
                Ok(dnormed)
            }
        }
    }

    fn widths(&self) -> (usize, usize) {
        let a = &self.attention;
        (a.heads * a.head_dim, a.kv_heads * a.head_dim)
    }
}

impl MlpLayers {
    fn forward<B: Backend>(&self, ctx: &Ctx<'_, B>, normed: B::Tensor) -> Result<(B::Tensor, SavedMlp<B>)> {
        let up = ctx.linear(&self.up, &normed)?;
        let gate = self.gate.as_ref().map(|layer| ctx.linear(layer, &normed)).transpose()?;
        let hidden = match &gate {
            Some(gate) => ctx.backend.gated_forward(self.activation, gate, &up)?,
            None => ctx.backend.activation_forward(self.activation, &up),
        };
        let out = ctx.linear(&self.down, &hidden)?;
        Ok((out, SavedMlp { normed, gate, up, hidden }))
    }

    /// Gradient of the normed input `[T, d]` from dy `[T, d]`.
    fn backward<B: Backend>(
        &self,
        ctx: &Ctx<'_, B>,
        saved: &SavedMlp<B>,
        dy: &B::Tensor,
        to: &mut Consumer<'_, B>,
    ) -> Result<B::Tensor> {
        let dhidden = ctx.linear_backward(&self.down, dy, &saved.hidden, to)?;
        let (Some(layer), Some(gate)) = (&self.gate, &saved.gate) else {
            let dup = ctx.backend.activation_backward(self.activation, &dhidden, &saved.up)?;
            return ctx.linear_backward(&self.up, &dup, &saved.normed, to);
        };
        let (dgate, dup) = ctx.backend.gated_backward(self.activation, &dhidden, gate, &saved.up)?;
        let mut dnormed = ctx.linear_backward(&self.up, &dup, &saved.normed, to)?;
        let part = ctx.linear_backward(layer, &dgate, &saved.normed, to)?;
        ctx.backend.axpy(1.0, &part, &mut dnormed)?;
        Ok(dnormed)
    }
}
