//! The leading curvature at θˢ, for minimisers to start from. It changes how fast a minimum is found, and not which.

use etymon_curvature::inverse::{GaussNewton, Lanczos, LinearOperator};
use etymon_data::Batch;
use etymon_model::{LayerSpec, Model};
use etymon_tensor::{Backend, Shape};

use super::Result;

/// (G + λI)⁻¹ at θˢ on the leading eigenvectors of λ^-½ G λ^-½, and 1/λ elsewhere.
#[derive(Debug)]
pub(super) struct Leading<B: Backend> {
    pairs: Lanczos<B::Tensor>,
    layers: Vec<LayerSpec>,
}

impl<B: Backend> Leading<B> {
    /// `lambda` is of each parameter that moves: of a layer's weight, then of its bias.
    pub fn new(base: &Model<B>, batches: &[Batch], lambda: &[f64], rank: usize) -> Result<Self> {
        let (backend, layers) = (base.backend(), base.layers().to_vec());
        let g = GaussNewton::new(base, batches);
        let mut parts = lambda.iter();
        let mut of_layer = Vec::with_capacity(layers.len());
        for layer in &layers {
            of_layer.extend(parts.next().copied());
            if layer.bias {
                parts.next();
            }
        }
        let scale = |v: &mut [B::Tensor]| v.iter_mut().zip(&of_layer).for_each(|(v, l)| backend.scale(l.powf(-0.5), v));
        let scaled = |v: &[B::Tensor]| {
            let mut v = v.to_vec();
            scale(&mut v);
            let mut out = g.apply(&v)?;
            scale(&mut out);
            Ok(out)
        };
        let pairs = Lanczos::new(backend, &scaled, &base.zero_direction(), (rank, rank), 0)?;
        Ok(Self { pairs, layers })
    }

    /// q ← (G + λI)⁻¹ q, for one matrix per parameter that moves.
    pub fn divide(&self, backend: &B, lambda: &[f64], q: &mut [B::Tensor]) -> Result<()> {
        q.iter_mut().zip(lambda).for_each(|(q, l)| backend.scale(l.powf(-0.5), q));
        let mut joined = Vec::with_capacity(self.layers.len());
        let mut parts = q.iter();
        for layer in &self.layers {
            let Some(weight) = parts.next() else { break };
            let bias = if layer.bias { parts.next() } else { None };
            joined.push(match bias {
                Some(bias) => {
                    let column = backend.reshape(bias.clone(), Shape::new(layer.d_out, 1))?;
                    backend.concat_cols(&[weight, &column])?
                }
                None => weight.clone(),
            });
        }
        let solved = self.pairs.solve(backend, &joined, 1.0)?;
        let mut parts = q.iter_mut();
        for (layer, x) in self.layers.iter().zip(solved) {
            let width = layer.d_in - usize::from(layer.bias);
            if let Some(weight) = parts.next() {
                *weight = backend.slice_cols(&x, 0, width)?;
            }
            let bias = if layer.bias { parts.next() } else { None };
            if let Some(bias) = bias {
                *bias = backend.reshape(backend.slice_cols(&x, width, 1)?, Shape::new(1, layer.d_out))?;
            }
        }
        q.iter_mut().zip(lambda).for_each(|(q, l)| backend.scale(l.powf(-0.5), q));
        Ok(())
    }
}
