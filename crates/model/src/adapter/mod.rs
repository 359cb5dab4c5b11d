//! Low-rank adapters (LoRA, Hu et al. 2021, 2106.09685): s = W x + b + (α/r) B A x. This is the one place that computes
//! with them: elsewhere a layer with an adapter is a layer.

mod config;
mod files;
mod model;

use etymon_tensor::{Accumulate, Backend, Transpose};

use crate::Result;
use crate::layers::Linear;
use crate::params::Params;
use crate::tap::{Consumer, Rows};

pub use config::Lora;
pub use files::{adapter_base, is_adapter};
pub(crate) use files::{adapter_files, load_adapter, save_adapter};

/// A and B as linear layers of their own, without bias: taps and gradients are those of these layers.
#[derive(Clone, Debug)]
pub(crate) struct Adapter {
    /// A `[r, d_in]`, which reads the layer's input.
    pub down: Linear,
    /// B `[d_out, r]`, which reads A x; its Ds is α/r times that of the layer.
    pub up: Linear,
    /// α/r.
    pub scale: f64,
}

impl Linear {
    /// x `[T, d_in]` → `[T, d_out]`.
    pub fn forward<B: Backend>(&self, backend: &B, params: &Params<B>, x: &B::Tensor) -> Result<B::Tensor> {
        let bias = self.bias.map(|id| params.get(id));
        let mut out = backend.linear_forward(x, params.get(self.weight), bias)?;
        if let Some(Adapter { down, up, scale }) = self.adapter.as_deref() {
            let hidden = down.forward(backend, params, x)?;
            let up = params.get(up.weight);
            backend.matmul_into(*scale, &hidden, Transpose::No, up, Transpose::Yes, Accumulate::Add, &mut out)?;
        }
        Ok(out)
    }

    /// dy `[T, d_out]` → dx `[T, d_in]`.
    pub fn backward<B: Backend>(&self, backend: &B, params: &Params<B>, dy: &B::Tensor) -> Result<B::Tensor> {
        let mut dx = backend.linear_backward(dy, params.get(self.weight))?;
        if let Some(Adapter { down, up, scale }) = self.adapter.as_deref() {
            let dhidden = up.backward(backend, params, dy)?;
            let down = params.get(down.weight);
            backend.matmul_into(*scale, &dhidden, Transpose::No, down, Transpose::No, Accumulate::Add, &mut dx)?;
        }
        Ok(dx)
    }

    /// Hands the layer to the consumer, then B and A of its adapter: x `[T, d_in]` without the bias column, dy `[T, d_out]`.
    pub fn hand_to<B: Backend>(
        &self,
        to: &mut Consumer<'_, B>,
        (backend, params): (&B, &Params<B>),
        x: &B::Tensor,
        dy: &B::Tensor,
        rows: Rows<'_>,
    ) -> Result<()> {
        to.weight(backend, self, x, dy, rows)?;
        let Some(Adapter { down, up, scale }) = self.adapter.as_deref().filter(|_| to.wants(self)) else {
            return Ok(());
        };
        let mut dup = dy.clone();
        backend.scale(*scale, &mut dup);
        to.weight(backend, up, &down.forward(backend, params, x)?, &dup, rows)?;
        to.weight(backend, down, x, &up.backward(backend, params, &dup)?, rows)
    }
}
