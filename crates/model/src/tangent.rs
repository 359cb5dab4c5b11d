//! Tangents of the tapped layers' weights: the direction along which a model is differentiated forward.

use etymon_tensor::Backend;

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
    /// that, if it has one.
    pub fn linear(&self, layer: &Linear, x: &B::Tensor, dx: Option<&B::Tensor>) -> Result<B::Tensor> {
        let backend = self.backend;
        let of_weight = |dw| match layer.bias {
            Some(_) => backend.linear_forward(&backend.append_ones(x), dw, None),
            None => backend.linear_forward(x, dw, None),
        };
        let own = layer.tap.map(|id| of_weight(&self.weights[id.0])).transpose()?;
        let handed_on = dx.map(|dx| backend.linear_forward(dx, self.params.get(layer.weight), None)).transpose()?;
        Ok(match (own, handed_on) {
            (Some(own), Some(mut out)) => {
                backend.axpy(1.0, &own, &mut out)?;
                out
            }
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => backend.zeros(etymon_tensor::Shape::new(backend.shape(x).rows, layer.d_out)),
        })
    }
}
