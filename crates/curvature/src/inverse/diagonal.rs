//! The inverse by the diagonal of the curvature alone.

use etymon_data::Batch;
use etymon_model::{Consumer, LayerIo, LayerSpec, Model, ModelError, Objective, Tap};
use etymon_tensor::{Folds, Shape};

use super::LinearOperator;
use crate::{Damping, Result};

/// V ⊘ (diag G + λ_ℓ) of each layer. The diagonal is (1/N) Σ_n (D W_n)∘(D W_n) `[d_out, d_in]`, from the gradients of whole
/// examples: with labels drawn from the model an unbiased estimate of diag G (of the Fisher, which is G for these losses),
/// with those of the data the diagonal of the empirical Fisher. It is EK-FAC with identities for Q_A and Q_S.
#[derive(Clone, Debug)]
pub struct DiagonalInverse<'a, B: Folds> {
    backend: &'a B,
    diagonal: Vec<B::Tensor>,
    lambda: Vec<f64>,
}

impl<'a, B: Folds> DiagonalInverse<'a, B> {
    /// From one pass over the examples of `batches`. A λ_ℓ relative to the mean of the diagonal is relative to the mean
    /// eigenvalue of G_ℓ, as EK-FAC's is.
    ///
    /// # Errors
    /// Data that the model does not take.
    pub fn new(model: &'a Model<B>, batches: &[Batch], objective: Objective, damping: Damping) -> Result<Self> {
        let (backend, specs) = (model.backend(), model.layers());
        let shape = |s: &LayerSpec| Shape::new(s.d_out, s.d_in);
        let zeros = |s: &LayerSpec| backend.sums(shape(s), vec![0.0; s.d_out * s.d_in]);
        let sums = specs.iter().map(zeros).collect::<std::result::Result<_, _>>()?;
        let mut tap = Squares { backend, sums };
        for batch in batches {
            model.run(batch, objective, Consumer::Tap(&mut tap))?;
        }
        let n = batches.iter().map(Batch::n_examples).sum::<usize>().max(1) as f64;
        let (mut diagonal, mut lambda) = (Vec::new(), Vec::new());
        for (spec, sums) in specs.iter().zip(tap.sums) {
            let means: Vec<f64> = backend.take_values(sums).into_iter().map(|x| x / n).collect();
            lambda.push(damping.lambda(means.iter().sum::<f64>() / means.len().max(1) as f64));
            diagonal.push(backend.upload(shape(spec), &means)?);
        }
        Ok(Self { backend, diagonal, lambda })
    }

    /// diag G, `[d_out, d_in]` of each layer.
    pub fn diagonal(&self) -> &[B::Tensor] {
        &self.diagonal
    }

    /// λ of each layer.
    pub fn lambda(&self) -> &[f64] {
        &self.lambda
    }
}

impl<B: Folds> LinearOperator<B> for DiagonalInverse<'_, B> {
    fn apply(&self, v: &[B::Tensor]) -> Result<Vec<B::Tensor>> {
        let layers = v.iter().zip(&self.diagonal).zip(&self.lambda);
        layers.map(|((v, diagonal), &lambda)| Ok(self.backend.divide_shifted(v, diagonal, lambda)?)).collect()
    }
}

/// Σ_n (D W_n)∘(D W_n) of each layer.
struct Squares<'a, B: Folds> {
    backend: &'a B,
    sums: Vec<B::Sums>,
}

impl<B: Folds> Tap<B> for Squares<'_, B> {
    fn layer(&mut self, io: LayerIo<'_, B>) -> std::result::Result<(), ModelError> {
        Ok(self.backend.square_accumulate(io.dout, io.input, io.segments, &mut self.sums[io.layer.0])?)
    }
}
