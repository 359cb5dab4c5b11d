//! Products with the true Hessian, by differences of exact gradients.

use etymon_data::Batch;
use etymon_model::{Model, Objective};
use etymon_tensor::{Backend, Shape};

use super::LinearOperator;
use super::direction::{axpy, dot, scale};
use crate::Result;

/// H = ∇²J of the mean train loss J over all examples of some batches, in the weights of the tapped layers:
/// H v = (∇J(θ + h v) − ∇J(θ − h v)) / 2h + O(h²), with h = ∛ε · ‖θ‖ / ‖v‖, where ε is the distance from 1 to the next
/// number of the backend's storage and ‖θ‖ the size of the tapped weights (1 if they are zero; so is
/// ‖v‖ taken). Any model that has a gradient has this product, for two forward and backward passes over the batches and a
/// copy of the parameters.
///
/// Truncation and rounding are both of the order of ε^⅔ of the gradient's scale: 4e-11 in f64, for which this is meant; f32
/// leaves 2e-5 at best, before the rounding of sums, and products at less than f32 lose what is left. Where the loss has a
/// kink (ReLU, max pools) within h v, H v has the kink's difference in it.
///
/// Unlike the Gauss-Newton matrix G, H depends on the labels and may be indefinite: conjugate gradients then say along which
/// direction H + λI is not positive, and [`Dense::solve`](super::Dense::solve) that it is not definite.
#[derive(Clone, Debug)]
pub struct Hessian<'a, B: Backend> {
    model: &'a Model<B>,
    batches: &'a [Batch],
    /// h ‖v‖.
    step: f64,
}

impl<'a, B: Backend> Hessian<'a, B> {
    /// Over all examples of the batches.
    ///
    /// # Errors
    /// What the backend meets.
    pub fn new(model: &'a Model<B>, batches: &'a [Batch]) -> Result<Self> {
        let (backend, params) = (model.backend(), model.params());
        let mut square = 0.0;
        for id in model.layer_params().into_iter().flat_map(|(weight, bias)| std::iter::once(weight).chain(bias)) {
            square += backend.dot(params.get(id), params.get(id))?;
        }
        let size = if square > 0.0 { square.sqrt() } else { 1.0 };
        Ok(Self { model, batches, step: epsilon(backend)?.cbrt() * size })
    }

    /// Σ_n ∇L(z_n, θ + h v).
    fn gradient(&self, h: f64, v: &[B::Tensor]) -> Result<Vec<B::Tensor>> {
        let (model, mut out) = (self.model.moved(h, v)?, self.model.zero_direction());
        for batch in self.batches {
            model.add_gradient(batch, Objective::TrainLoss, &mut out)?;
        }
        Ok(out)
    }
}

impl<B: Backend> LinearOperator<B> for Hessian<'_, B> {
    fn apply(&self, v: &[B::Tensor]) -> Result<Vec<B::Tensor>> {
        let backend = self.model.backend();
        let size = dot(backend, v, v)?.sqrt();
        let h = if size == 0.0 { self.step } else { self.step / size };
        let mut out = self.gradient(h, v)?;
        axpy(backend, -1.0, &self.gradient(-h, v)?, &mut out)?;
        let n = self.batches.iter().map(Batch::n_examples).sum::<usize>().max(1);
        scale(backend, 0.5 / (h * n as f64), &mut out);
        Ok(out)
    }
}

/// The smallest 2^−k that 1 + 2^−k keeps on the backend.
fn epsilon<B: Backend>(backend: &B) -> Result<f64> {
    let powers: Vec<f64> = (1..=f64::MANTISSA_DIGITS).map(|k| 0.5f64.powi(k as i32)).collect();
    let sums: Vec<f64> = powers.iter().map(|p| 1.0 + p).collect();
    let kept = backend.download::<f64>(&backend.upload(Shape::new(1, sums.len()), &sums)?);
    let kept = powers.iter().zip(kept.iter()).filter(|(_, sum)| **sum > 1.0);
    Ok(kept.map(|(power, _)| *power).fold(0.5, f64::min))
}
