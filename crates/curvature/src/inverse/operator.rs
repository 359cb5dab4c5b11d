//! Symmetric matrices over the weights of all tapped layers, known by their products.

use std::ops::Range;

use etymon_data::Batch;
use etymon_model::{LayerId, Model};
use etymon_tensor::Backend;

use super::direction::{only, scale};
use crate::{LayerPreconditioner, Preconditioner, Result};

/// A symmetric matrix, known by its products with directions; positive semi-definite, but for [`Hessian`](super::Hessian).
pub trait LinearOperator<B: Backend> {
    /// The product with v, one matrix `[d_out, d_in]` per tapped layer.
    ///
    /// # Errors
    /// A direction of other shapes, and what the model or the backend meets.
    fn apply(&self, v: &[B::Tensor]) -> Result<Vec<B::Tensor>>;

    /// The products with several directions, each as [`apply`](Self::apply) makes it, in one pass over the data where that
    /// saves work.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    fn apply_all(&self, vs: &[&[B::Tensor]]) -> Result<Vec<Vec<B::Tensor>>> {
        vs.iter().map(|v| self.apply(v)).collect()
    }
}

impl<B: Backend, F: Fn(&[B::Tensor]) -> Result<Vec<B::Tensor>>> LinearOperator<B> for F {
    fn apply(&self, v: &[B::Tensor]) -> Result<Vec<B::Tensor>> {
        self(v)
    }
}

/// G = (1/N) Σ_n J_nᵀ H_n J_n over the examples of some batches.
#[derive(Clone, Debug)]
pub struct GaussNewton<'a, B: Backend> {
    model: &'a Model<B>,
    batches: &'a [Batch],
    /// Batches of each part.
    parts: Vec<Range<usize>>,
}

impl<'a, B: Backend> GaussNewton<'a, B> {
    /// The Gauss-Newton matrix of the mean train loss over all examples of the batches, each of which is a part.
    pub fn new(model: &'a Model<B>, batches: &'a [Batch]) -> Self {
        Self { model, batches, parts: (0..batches.len()).map(|i| i..i + 1).collect() }
    }

    /// The same in parts of as many examples each, but the last: what a stochastic iteration sees in one step must not depend
    /// on how many rows fit into a batch. No batch may have examples of two parts.
    #[must_use]
    pub fn in_parts_of(self, examples: usize) -> Self {
        let (mut parts, mut start, mut filled) = (Vec::new(), 0, 0);
        for (i, batch) in self.batches.iter().enumerate() {
            filled += batch.n_examples();
            if filled >= examples || i + 1 == self.batches.len() {
                parts.push(start..i + 1);
                (start, filled) = (i + 1, 0);
            }
        }
        Self { parts, ..self }
    }

    /// The same over one of the parts: an unbiased estimate when parts are drawn with the frequency of their examples.
    pub fn part(&self, part: usize) -> Self {
        let batches = &self.batches[self.parts[part].clone()];
        Self { model: self.model, batches, parts: std::iter::once(0..batches.len()).collect() }
    }

    /// Parts.
    pub fn n_parts(&self) -> usize {
        self.parts.len()
    }

    /// Examples.
    pub fn n_examples(&self) -> usize {
        self.batches.iter().map(Batch::n_examples).sum()
    }

    /// The model.
    pub fn model(&self) -> &'a Model<B> {
        self.model
    }
}

impl<B: Backend> LinearOperator<B> for GaussNewton<'_, B> {
    fn apply(&self, v: &[B::Tensor]) -> Result<Vec<B::Tensor>> {
        Ok(only(self.apply_all(&[v])?))
    }

    fn apply_all(&self, vs: &[&[B::Tensor]]) -> Result<Vec<Vec<B::Tensor>>> {
        let mut all: Vec<_> = vs.iter().map(|_| self.model.zero_direction()).collect();
        for batch in self.batches {
            self.model.add_gauss_newton(batch, vs, &mut all)?;
        }
        let share = 1.0 / self.n_examples().max(1) as f64;
        all.iter_mut().for_each(|out| scale(self.model.backend(), share, out));
        Ok(all)
    }
}

/// A + λI, with a λ for each layer.
pub struct Damped<'a, B> {
    /// The backend.
    pub backend: &'a B,
    /// A.
    pub inner: &'a dyn LinearOperator<B>,
    /// λ of each layer.
    pub lambda: &'a [f64],
}

impl<B: Backend> LinearOperator<B> for Damped<'_, B> {
    fn apply(&self, v: &[B::Tensor]) -> Result<Vec<B::Tensor>> {
        Ok(only(self.apply_all(&[v])?))
    }

    fn apply_all(&self, vs: &[&[B::Tensor]]) -> Result<Vec<Vec<B::Tensor>>> {
        let mut all = self.inner.apply_all(vs)?;
        for (out, v) in all.iter_mut().zip(vs) {
            for ((out, v), lambda) in out.iter_mut().zip(*v).zip(self.lambda) {
                self.backend.axpy(*lambda, v, out)?;
            }
        }
        Ok(all)
    }
}

/// (G + λI)⁻¹ by K-FAC or EK-FAC, held on the backend: a preconditioner of the iterations.
#[derive(Clone, Debug)]
pub struct EkfacInverse<'a, B: Backend> {
    backend: &'a B,
    layers: Vec<LayerPreconditioner<B>>,
}

impl<'a, B: Backend> EkfacInverse<'a, B> {
    /// Of the `n_layers` layers of a preconditioner; the identity has none.
    ///
    /// # Errors
    /// As [`Preconditioner::layer`].
    pub fn new(backend: &'a B, preconditioner: Preconditioner<'_>, n_layers: usize) -> Result<Option<Self>> {
        let layers = (0..n_layers).map(|i| preconditioner.layer(backend, LayerId(i))).collect::<Result<Option<_>>>()?;
        Ok(layers.map(|layers| Self { backend, layers }))
    }

    /// The same with another λ for each layer.
    #[must_use]
    pub fn with_lambda(mut self, lambda: &[f64]) -> Self {
        self.layers.iter_mut().zip(lambda).for_each(|(layer, &lambda)| layer.lambda = lambda);
        self
    }

    /// λ of each layer.
    pub fn lambda(&self) -> Vec<f64> {
        self.layers.iter().map(|l| l.lambda).collect()
    }
}

impl<B: Backend> LinearOperator<B> for EkfacInverse<'_, B> {
    fn apply(&self, v: &[B::Tensor]) -> Result<Vec<B::Tensor>> {
        self.layers.iter().zip(v).map(|(layer, v)| layer.apply(self.backend, v)).collect()
    }
}
