//! Tangents of the tapped layers' weights: the direction along which a model is differentiated forward.

use etymon_tensor::{Backend, Shape};

use crate::Result;
use crate::layers::Linear;
use crate::params::Params;

/// A direction dW `[d_out, d_in]` per tapped layer, with the bias as the last column where there is one.
pub(crate) struct Tangents<'a, B: Backend> {
    pub backend: &'a B,
    pub params: &'a Params<B>,
    pub weights: &'a [B::Tensor],
}

impl<B: Backend> Tangents<'_, B> {
    /// The tangent of a linear layer's output `[T, d_out]`: W dx + dW ā, from its input x `[T, d_in]` and the tangent of
    /// that, if it has one; and (α/r)(B d(A x) + dB A x) of its adapter.
    pub fn linear(&self, layer: &Linear, x: &B::Tensor, dx: Option<&B::Tensor>) -> Result<B::Tensor> {
        let backend = self.backend;
        let mut out = self.weight(layer, x, dx)?;
        if let Some(adapter) = layer.adapter.as_deref() {
            let hidden = adapter.down.forward(backend, self.params, x)?;
            let dhidden = self.weight(&adapter.down, x, dx)?;
            if let Some(mut added) = self.weight(&adapter.up, &hidden, dhidden.as_ref())? {
                backend.scale(adapter.scale, &mut added);
                out = self.sum(out, Some(added))?;
            }
        }
        Ok(out.unwrap_or_else(|| backend.zeros(Shape::new(backend.shape(x).rows, layer.d_out))))
    }

    /// W dx + dW ā of one weight; none when neither the input nor the weight has a tangent.
    fn weight(&self, layer: &Linear, x: &B::Tensor, dx: Option<&B::Tensor>) -> Result<Option<B::Tensor>> {
        let backend = self.backend;
        let of_weight = |dw| match layer.bias {
            Some(_) => backend.linear_forward(&backend.append_ones(x), dw, None),
            None => backend.linear_forward(x, dw, None),
        };
        let own = layer.tap.map(|id| of_weight(&self.weights[id.0])).transpose()?;
        let handed_on = dx.map(|dx| backend.linear_forward(dx, self.params.get(layer.weight), None)).transpose()?;
        self.sum(handed_on, own)
    }

    fn sum(&self, x: Option<B::Tensor>, y: Option<B::Tensor>) -> Result<Option<B::Tensor>> {
        match (x, y) {
            (Some(mut x), Some(y)) => {
                self.backend.axpy(1.0, &y, &mut x)?;
                Ok(Some(x))
            }
            (x, y) => Ok(x.or(y)),
        }
    }
}
