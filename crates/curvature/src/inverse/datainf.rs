//! DataInf: the mean of inverses in place of the inverse of a mean.

use etymon_data::Batch;
use etymon_model::{Consumer, LayerIo, LayerSpec, Model, ModelError, Objective, Tap};
use etymon_tensor::{Folds, Shape, Transpose};

use super::LinearOperator;
use super::direction::{axpy, scale};
use crate::{Damping, Result};

/// x_ℓ = (1/N) Σ_n (g_n g_nᵀ + λ_ℓ I)⁻¹ v_ℓ of each layer, g_n = D W_n the gradient of a train example, which is
/// (1/λ_ℓ) (v_ℓ − (1/N) Σ_n ⟨g_n, v_ℓ⟩ / (λ_ℓ + ‖g_n‖²) g_n) (Kwon et al. 2023, 2310.00902). For layers of the size of LoRA's:
/// gradients of a batch are formed one layer at a time.
#[derive(Debug)]
pub struct DataInf<'a, B: Folds> {
    model: &'a Model<B>,
    batches: &'a [Batch],
    objective: Objective,
    lambda: Vec<f64>,
}

impl<'a, B: Folds> DataInf<'a, B> {
    /// Over the examples of `batches`, with λ_ℓ from the mean square of the numbers of their gradients, which is the mean
    /// eigenvalue of the layer's (1/N) Σ_n g_n g_nᵀ (paper: 0.1 of it).
    ///
    /// # Errors
    /// Data that the model does not take.
    pub fn new(model: &'a Model<B>, batches: &'a [Batch], objective: Objective, damping: Damping) -> Result<Self> {
        let lambda = lambda_of_gradients(model, batches, objective, damping)?;
        Ok(Self { model, batches, objective, lambda })
    }

    /// λ of each layer.
    pub fn lambda(&self) -> &[f64] {
        &self.lambda
    }
}

impl<B: Folds> LinearOperator<B> for DataInf<'_, B> {
    fn apply(&self, v: &[B::Tensor]) -> Result<Vec<B::Tensor>> {
        let backend = self.model.backend();
        let projections = self.model.zero_direction();
        let mut tap = Projections { backend, v, lambda: &self.lambda, sums: projections };
        for batch in self.batches {
            self.model.run(batch, self.objective, Consumer::Tap(&mut tap))?;
        }
        let mut x = v.to_vec();
        axpy(backend, -1.0 / count(self.batches), &tap.sums, &mut x)?;
        for (x, lambda) in x.iter_mut().zip(&self.lambda) {
            scale(backend, 1.0 / lambda, std::slice::from_mut(x));
        }
        Ok(x)
    }
}

/// λ of each layer from the mean square of the numbers of the examples' gradients. With labels drawn from the model these
/// are the mean of the eigenvalue correction Λ, so that λ is that of EK-FAC on the same examples and draws.
///
/// # Errors
/// Data that the model does not take.
pub fn lambda_of_gradients<B: Folds>(
    model: &Model<B>,
    batches: &[Batch],
    objective: Objective,
    damping: Damping,
) -> Result<Vec<f64>> {
    let mut squares = Squares { backend: model.backend(), sums: vec![0.0; model.layers().len()] };
    for batch in batches {
        model.run(batch, objective, Consumer::Tap(&mut squares))?;
    }
    let n = count(batches);
    let mean = |(sum, s): (&f64, &LayerSpec)| sum / (n * (s.d_out * s.d_in) as f64);
    Ok(squares.sums.iter().zip(model.layers()).map(mean).map(|mean| damping.lambda(mean)).collect())
}

fn count(batches: &[Batch]) -> f64 {
    batches.iter().map(Batch::n_examples).sum::<usize>().max(1) as f64
}

/// Σ_n ‖g_n‖² of each layer.
struct Squares<'a, B: Folds> {
    backend: &'a B,
    sums: Vec<f64>,
}

impl<B: Folds> Tap<B> for Squares<'_, B> {
    fn layer(&mut self, io: LayerIo<'_, B>) -> std::result::Result<(), ModelError> {
        let gradients = self.backend.example_gradients(io.dout, io.input, io.segments)?;
        self.sums[io.layer.0] += self.backend.dot(&gradients, &gradients)?;
        Ok(())
    }
}

/// Σ_n ⟨g_n, v⟩ / (λ + ‖g_n‖²) g_n of each layer.
struct Projections<'a, B: Folds> {
    backend: &'a B,
    v: &'a [B::Tensor],
    lambda: &'a [f64],
    sums: Vec<B::Tensor>,
}

impl<B: Folds> Tap<B> for Projections<'_, B> {
    fn layer(&mut self, io: LayerIo<'_, B>) -> std::result::Result<(), ModelError> {
        let (backend, i) = (self.backend, io.layer.0);
        let gradients = backend.example_gradients(io.dout, io.input, io.segments)?;
        let (shape, weights) = (backend.shape(&self.v[i]), backend.shape(&gradients).cols);
        let v = backend.reshape(self.v[i].clone(), Shape::new(1, weights))?;
        let along = backend.row_sums(&backend.matmul(&gradients, Transpose::No, &v, Transpose::Yes)?);
        let squares = backend.row_sums(&backend.multiply(&gradients, &gradients)?);
        let shares: Vec<f64> = along.iter().zip(squares.iter()).map(|(a, s)| a / (self.lambda[i] + s)).collect();
        let shares = backend.upload(Shape::new(1, shares.len()), &shares)?;
        let sum = backend.matmul(&shares, Transpose::No, &gradients, Transpose::No)?;
        Ok(backend.axpy(1.0, &backend.reshape(sum, shape)?, &mut self.sums[i])?)
    }
}
