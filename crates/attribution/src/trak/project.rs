//! Gradients of a batch under a random projection that is made on the fly.

use etymon_data::Batch;
use etymon_model::{Consumer, LayerIo, LayerSpec, Measurement, Model, ModelError, Objective, Tap};
use etymon_tensor::{Accumulate, Buffer, Folds, Shape, Signs, Transpose};

use crate::Result;

/// Signs that are held at a time, unless one row of a weight needs more: they are read again by the product, so they
/// should stay in a cache.
const BLOCK: usize = 1 << 20;

/// Rows of a weight `[d_out, d_in]` whose signs are held at a time.
pub(super) fn block_rows(spec: &LayerSpec, k: usize) -> usize {
    (BLOCK / (spec.d_in * k).max(1)).clamp(1, spec.d_out.max(1))
}

/// P of one model, `[p, k]` of ±1/√k, over the weights of its tapped layers.
pub(super) struct Projection {
    signs: Vec<Signs>,
    k: usize,
}

impl Projection {
    /// Signs are addressed by seed, number of the model, name of the layer, place in the weight, and column.
    pub fn new(specs: &[LayerSpec], k: usize, seed: u64, number: usize) -> Self {
        Self { signs: specs.iter().map(|spec| Signs::new(seed, number as u64, &spec.name)).collect(), k }
    }

    /// Pᵀ ∇margin of each example of a batch `[n, k]`, and its margin.
    pub fn features<B: Folds>(&self, model: &Model<B>, batch: &Batch) -> Result<(B::Tensor, Buffer<f64>)> {
        let backend = model.backend();
        let out = backend.zeros(Shape::new(batch.n_examples(), self.k));
        let mut tap = ProjectionTap { backend, specs: model.layers(), projection: self, out };
        let margins = model.run(batch, Objective::Measurement(Measurement::Margin), Consumer::Tap(&mut tap))?;
        let mut out = tap.out;
        backend.scale(1.0 / (self.k as f64).sqrt(), &mut out);
        Ok((out, margins))
    }
}

struct ProjectionTap<'a, B: Folds> {
    backend: &'a B,
    specs: &'a [LayerSpec],
    projection: &'a Projection,
    /// `[n, k]`.
    out: B::Tensor,
}

impl<B: Folds> Tap<B> for ProjectionTap<'_, B> {
    fn layer(&mut self, io: LayerIo<'_, B>) -> std::result::Result<(), ModelError> {
        let (backend, spec) = (self.backend, &self.specs[io.layer.0]);
        let (signs, k, n) = (self.projection.signs[io.layer.0], self.projection.k, io.segments.len());
        let mut sums = backend.slice_rows(&self.out, io.first_example, n)?;
        let step = block_rows(spec, k);
        for first in (0..spec.d_out).step_by(step) {
            let rows = step.min(spec.d_out - first);
            let dout = backend.slice_cols(io.dout, first, rows)?;
            let gradients = backend.example_gradients(&dout, io.input, io.segments)?;
            let part = backend.random_signs(signs, first * spec.d_in..(first + rows) * spec.d_in, k);
            backend.matmul_into(1.0, &gradients, Transpose::No, &part, Transpose::No, Accumulate::Add, &mut sums)?;
        }
        Ok(backend.write_rows(&mut self.out, io.first_example, &sums)?)
    }
}
