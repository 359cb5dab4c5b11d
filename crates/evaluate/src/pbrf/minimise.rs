//! The choice of the minimiser, and what it leaves.

use etymon_data::{Batch, Example, Padding};
use etymon_model::Model;
use etymon_tensor::Backend;
use serde::Serialize;

use super::objective::Proximal;
use super::{PbrfError, Result, adam, lbfgs};

/// How a proximal objective is minimised, from θˢ on and with the whole train set in every gradient: no random number enters.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(tag = "minimiser", rename_all = "lowercase")]
pub enum Minimiser {
    /// L-BFGS with 20 pairs (Liu & Nocedal 1989), started with 1/λ as inverse Hessian. It uses gradients of the objective
    /// itself and no matrix of any method that is judged.
    Lbfgs {
        /// The gradient's norm, in which each layer is divided by √λ_ℓ, shall fall to this part of its start.
        tolerance: f64,
        /// Most gradients.
        most: u64,
    },
    /// Adam (β 0.9 and 0.999) on the objective divided by |ε|, with a learning rate that falls along a cosine to 0.
    Adam {
        /// Learning rate at the start, in units of the parameters.
        rate: f64,
        /// Steps.
        steps: u64,
        /// As for L-BFGS; Adam makes all its steps, and this says whether they were enough.
        tolerance: f64,
    },
}

/// Where a minimisation ended.
#[derive(Clone, Debug)]
pub struct Solution<B: Backend> {
    /// The model at θˢ(ε).
    pub model: Model<B>,
    /// Gradients computed.
    pub evaluations: u64,
    /// Norm of the last gradient / norm of the first, each layer divided by √λ_ℓ; 0 where the first was 0.
    pub residual: f64,
    /// Whether the residual is below the tolerance.
    pub converged: bool,
}

/// Where a minimiser stopped.
pub(super) struct Stop<B: Backend> {
    pub delta: Vec<B::Tensor>,
    pub evaluations: u64,
    pub residual: f64,
}

impl<B: Backend> Proximal<B> {
    /// θˢ(ε) for one train example z_m.
    ///
    /// # Errors
    /// ε = 0, an example that the model does not take, and an objective that becomes infinite.
    pub fn minimise(&self, example: &Example, epsilon: f64, by: Minimiser) -> Result<Solution<B>> {
        if !(epsilon.is_finite() && epsilon != 0.0) {
            return Err(PbrfError::Number { name: "ε", value: epsilon });
        }
        let batch = Batch::stack(std::slice::from_ref(example), Padding::None)?;
        let mut model = self.base().clone();
        let mut at = |delta: &[B::Tensor]| self.at(delta, &batch, epsilon, &mut model);
        let (stop, tolerance) = match by {
            Minimiser::Lbfgs { tolerance, most } => {
                (lbfgs::run(self, &mut at, epsilon.abs(), tolerance, most)?, tolerance)
            }
            Minimiser::Adam { rate, steps, tolerance } => {
                (adam::run(self, &mut at, epsilon.abs(), rate, steps)?, tolerance)
            }
        };
        if !stop.residual.is_finite() {
            return Err(PbrfError::Diverged { id: example.id.clone(), evaluations: stop.evaluations });
        }
        self.displace(&stop.delta, &mut model)?;
        let (evaluations, residual) = (stop.evaluations, stop.residual);
        Ok(Solution { model, evaluations, residual, converged: residual <= tolerance })
    }
}

/// a / b, and 0 where both are 0.
pub(super) fn ratio(a: f64, b: f64) -> f64 {
    if a == 0.0 { 0.0 } else { a / b }
}

/// √Σ_ℓ ‖g_ℓ‖²/λ_ℓ.
pub(super) fn norm<B: Backend>(of: &Proximal<B>, gradient: &[B::Tensor]) -> Result<f64> {
    Ok(super::vectors::dot_over(of.base().backend(), gradient, gradient, of.lambda())?.sqrt())
}
