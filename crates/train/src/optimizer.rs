//! The optimizer's memory, and one update of all parameters.

use etymon_model::{Model, ParamSpec, Params};
use etymon_tensor::Backend;

use crate::Result;
use crate::plan::{Decay, Optimizer, Plan};

/// An optimizer with its moments.
#[derive(Clone, Debug)]
pub(crate) struct OptimizerState<B: Backend> {
    optimizer: Optimizer,
    /// Weight decay of each parameter.
    decays: Vec<f64>,
    /// Whether each parameter stays as it is.
    frozen: Vec<bool>,
    /// Updates made.
    pub updates: u64,
    pub moments: Moments<B>,
}

#[derive(Clone, Debug)]
pub(crate) enum Moments<B: Backend> {
    AdamW { m: Params<B>, v: Params<B> },
    Sgd { velocity: Params<B> },
}

impl<B: Backend> Moments<B> {
    /// Each set of moments with its name in files.
    pub fn named(&self) -> Vec<(&'static str, &Params<B>)> {
        match self {
            Self::AdamW { m, v } => vec![("m", m), ("v", v)],
            Self::Sgd { velocity } => vec![("velocity", velocity)],
        }
    }

    pub fn named_mut(&mut self) -> Vec<(&'static str, &mut Params<B>)> {
        match self {
            Self::AdamW { m, v } => vec![("m", m), ("v", v)],
            Self::Sgd { velocity } => vec![("velocity", velocity)],
        }
    }
}

impl<B: Backend> OptimizerState<B> {
    /// For the parameters of a model that are trained.
    pub fn new(model: &Model<B>, plan: &Plan) -> Self {
        let decays = |spec: &ParamSpec| if plan.decay == Decay::All || spec.decay { plan.weight_decay } else { 0.0 };
        let zeros = || model.zero_gradients();
        let moments = match plan.optimizer {
            Optimizer::AdamW { .. } => Moments::AdamW { m: zeros(), v: zeros() },
            Optimizer::Sgd { .. } => Moments::Sgd { velocity: zeros() },
        };
        let frozen = |spec: &ParamSpec| plan.tie.as_ref().is_some_and(|tie| tie.frozen.contains(&spec.name));
        Self {
            optimizer: plan.optimizer,
            frozen: model.trained_specs().iter().map(frozen).collect(),
            decays: model.trained_specs().iter().map(decays).collect(),
            updates: 0,
            moments,
        }
    }

    /// One update of `params` by the gradients `grads` of those that are trained, at learning rate `lr`.
    pub fn update(&mut self, backend: &B, params: &mut Params<B>, grads: &Params<B>, lr: f64) -> Result<()> {
        self.updates += 1;
        let trained = params.iter_mut().skip(grads.first().0).zip(grads.iter());
        let parameters = trained.zip(self.decays.iter().zip(&self.frozen));
        match (&mut self.moments, self.optimizer) {
            (Moments::AdamW { m, v }, Optimizer::AdamW { beta1, beta2, eps }) => {
                let moments = m.iter_mut().zip(v.iter_mut());
                for (((param, grad), (&decay, _)), (m, v)) in parameters.zip(moments).filter(|((_, (_, f)), _)| !**f) {
                    backend.adamw_update(param, grad, m, v, lr, beta1, beta2, eps, decay, self.updates)?;
                }
            }
            (Moments::Sgd { velocity }, Optimizer::Sgd { momentum }) => {
                let velocities = velocity.iter_mut();
                for (((param, grad), (&decay, _)), velocity) in
                    parameters.zip(velocities).filter(|((_, (_, f)), _)| !**f)
                {
                    backend.sgd_update(param, grad, velocity, lr, momentum, decay)?;
                }
            }
            // `new` makes the moments of the optimizer.
            _ => {}
        }
        Ok(())
    }
}
