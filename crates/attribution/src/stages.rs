//! Influence through two stages: of pre-training examples on a query of the fine-tuned model (Chen et al. 2020, 2007.09081;
//! Bao et al. 2025, 2505.05017).
//!
//! Pre-training ends at θ* = argmin J, fine-tuning at T* = argmin F(W, T) + Σ_ℓ (ρ_ℓ/2)‖T_ℓ − θ*_ℓ‖² over the layers T that it
//! trains, with F = (1/n) Σ_i L_i over its examples; W are the layers that stay at θ*. Layers of T with ρ_ℓ > 0 stay near
//! pre-training, the others (a new head) forget where they started. A derivative of stationarity in θ* gives, with
//! v = (∂²_TT F + ρ)⁻¹ ∂_T f,
//!
//! - u_ℓ = ρ_ℓ v_ℓ for a layer that stays near,
//! - u_ℓ = ∂_ℓ f − [∇²F (0, v)]_ℓ for a frozen one,
//! - u_ℓ = 0 for a layer that only pre-training has, or that fine-tuning starts anew,
//!
//! and the influence of a pre-training example is −uᵀ (G + λI)⁻¹ ∇L(z, θ*), G and ∇L at the PRE-TRAINED model: the query is
//! transformed, and all else is a score of one stage. All layers frozen but the head is the paper's "embedding fixed", all of
//! them near with ρ = 2α its "embedding updated" (the proximity α‖W − W*‖²). The influence of a fine-tuning example is
//! −vᵀ ∂_T L(x), at the fine-tuned model.

use etymon_curvature::inverse::LinearOperator;
use etymon_model::{LayerSpec, Model};
use etymon_tensor::{Backend, Folds, Shape};

use crate::{AttributionError, Queries, Rank, Result};

/// What fine-tuning does with a layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Role {
    /// It stays where pre-training left it.
    Frozen,
    /// It is trained, and stays near where pre-training left it: (ρ/2)‖W − W*‖² is added to F. ρ > 0.
    Near {
        /// ρ, in nats per example and squared weight; 2α of the paper.
        rho: f64,
    },
    /// It is trained, and forgets where it started.
    Free,
}

/// The tapped layers of a fine-tuned model, and those of the model that it comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct Stages {
    /// Per layer of the fine-tuned model.
    roles: Vec<Role>,
    /// Per layer of the pre-trained model, the same layer of the fine-tuned one.
    shared: Vec<Option<usize>>,
}

/// Queries for the gradients of both stages.
#[derive(Clone, Debug)]
pub struct StageQueries<B: Folds> {
    /// −u on the layers of the pre-trained model, still to be multiplied with (G + λI)⁻¹.
    pub pretraining: Queries<B>,
    /// −v on the trained layers of the fine-tuned model, ready.
    pub finetuning: Queries<B>,
}

impl Stages {
    /// Layers of equal name and shape are the same; `role` is asked for every layer of the fine-tuned model.
    ///
    /// # Errors
    /// A frozen or near layer that the pre-trained model does not tap; nothing that is trained; a ρ that is not above 0.
    pub fn new(pretrained: &[LayerSpec], finetuned: &[LayerSpec], role: impl Fn(usize) -> Role) -> Result<Self> {
        let roles: Vec<Role> = (0..finetuned.len()).map(role).collect();
        for (spec, role) in finetuned.iter().zip(&roles) {
            let problem = match role {
                Role::Free => continue,
                Role::Near { rho } if !(rho.is_finite() && *rho > 0.0) => {
                    format!("has the proximity {rho}, not above 0")
                }
                _ if pretrained.iter().any(|p| p.is_same(spec)) => continue,
                _ => "is no tapped layer of the pre-trained model".to_owned(),
            };
            return Err(AttributionError::Stage { layer: spec.name.clone(), problem });
        }
        let found = |p: &LayerSpec| finetuned.iter().position(|f| p.is_same(f));
        let shared = pretrained.iter().map(|p| found(p).filter(|&f| roles[f] != Role::Free)).collect();
        let stages = Self { roles, shared };
        if stages.roles.iter().all(|role| *role == Role::Frozen) {
            return Err(AttributionError::StageWithout { what: "trained layer" });
        }
        if stages.shared.iter().all(Option::is_none) {
            return Err(AttributionError::StageWithout { what: "layer that is frozen or held near pre-training" });
        }
        Ok(stages)
    }

    /// The fine-tuned model with its trained layers alone tapped.
    #[must_use]
    pub fn trained<B: Backend>(&self, finetuned: &Model<B>) -> Model<B> {
        finetuned.with_layers_where(|layer| self.is_trained(layer))
    }

    /// `[trained layers]` What is added to the curvature of each: `damping` (a λ of each of these layers), and ρ where there is one.
    #[must_use]
    pub fn lambda(&self, damping: &[f64]) -> Vec<f64> {
        self.held().zip(damping).map(|(rho, damping)| rho.unwrap_or(0.0) + damping).collect()
    }

    /// `[trained layers]` ρ, where there is one.
    pub fn held(&self) -> impl Iterator<Item = Option<f64>> + '_ {
        let trained = self.roles.iter().filter(|role| **role != Role::Frozen);
        trained.map(|role| if let Role::Near { rho } = role { Some(*rho) } else { None })
    }

    /// Whether any layer is frozen, so that [`transform`](Self::transform) needs products with ∇²F.
    pub fn has_frozen(&self) -> bool {
        self.roles.contains(&Role::Frozen)
    }

    fn is_trained(&self, layer: usize) -> bool {
        self.roles.get(layer).is_some_and(|role| *role != Role::Frozen)
    }

    /// Brings `queries`, the plain gradients −∇f of all tapped layers of the fine-tuned model, to both stages. `inverse` is
    /// (∂²_TT F + [`lambda`](Self::lambda))⁻¹ on the trained layers, `hessian` is ∇²F on all tapped layers (used for frozen ones
    /// alone). `pretrained` are the tapped layers of the pre-trained model. `at_once` queries are solved in one pass; `done` hears
    /// of each twice: of its v, and of its u.
    ///
    /// # Errors
    /// What the operators meet, and results that are not finite.
    pub fn transform<B: Folds>(
        &self,
        (pretrained, finetuned): (&[LayerSpec], &Model<B>),
        queries: &Queries<B>,
        inverse: &dyn LinearOperator<B>,
        hessian: &dyn LinearOperator<B>,
        at_once: usize,
        mut done: impl FnMut(),
    ) -> Result<StageQueries<B>> {
        let (backend, specs) = (finetuned.backend(), finetuned.layers());
        let model = self.trained(finetuned);
        let trained = model.layers();
        let values = || queries.values.clone();
        let of_trained = Queries::collect(backend, trained, values(), Rank::Full, |query| {
            let gradient = queries.gradients(backend, specs, query)?.into_iter().enumerate();
            Ok(gradient.filter(|(layer, _)| self.is_trained(*layer)).map(|(_, g)| g).collect())
        })?;
        let finetuning = of_trained.precondition(&model, inverse, (Rank::Full, at_once), |_| done())?;
        let pretraining = Queries::collect(backend, pretrained, values(), Rank::Full, |query| {
            let v = self.spread(backend, specs, finetuning.gradients(backend, trained, query)?);
            let u = self.through(backend, queries.gradients(backend, specs, query)?, v, hessian)?;
            done();
            let of = |(spec, shared): (&LayerSpec, &Option<usize>)| match shared {
                Some(layer) => u[*layer].clone(),
                None => backend.zeros(Shape::new(spec.d_out, spec.d_in)),
            };
            Ok(pretrained.iter().zip(&self.shared).map(of).collect())
        })?;
        Ok(StageQueries { pretraining, finetuning })
    }

    /// v on all tapped layers of the fine-tuned model, zero on the frozen ones.
    fn spread<B: Folds>(&self, backend: &B, specs: &[LayerSpec], v: Vec<B::Tensor>) -> Vec<B::Tensor> {
        let mut v = v.into_iter();
        let of = |(layer, spec): (usize, &LayerSpec)| {
            let own = if self.is_trained(layer) { v.next() } else { None };
            own.unwrap_or_else(|| backend.zeros(Shape::new(spec.d_out, spec.d_in)))
        };
        specs.iter().enumerate().map(of).collect()
    }

    /// u on all tapped layers of the fine-tuned model, from the gradient and v; what it holds on free layers means nothing.
    fn through<B: Folds>(
        &self,
        backend: &B,
        mut gradient: Vec<B::Tensor>,
        mut v: Vec<B::Tensor>,
        hessian: &dyn LinearOperator<B>,
    ) -> Result<Vec<B::Tensor>> {
        if self.has_frozen() {
            for (g, crossed) in gradient.iter_mut().zip(hessian.apply(&v)?) {
                backend.axpy(-1.0, &crossed, g)?;
            }
        }
        for ((role, g), v) in self.roles.iter().zip(&mut gradient).zip(&mut v) {
            if let Role::Near { rho } = role {
                backend.scale(*rho, v);
                std::mem::swap(g, v);
            }
        }
        Ok(gradient)
    }
}
