//! Influence of a group of examples, first and second order (Basu et al. 2020, 1911.00418).

use etymon_curvature::inverse::{GaussNewton, LinearOperator};
use etymon_data::Batch;
use etymon_model::{Model, Objective};
use etymon_tensor::Folds;

use crate::{AttributionError, Queries, Result};

/// The influence of a group U on one query, in the unit of I: without the group f changes by about −(1/N) of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GroupInfluence {
    /// Σ_{m ∈ U} I(q, m).
    pub first: f64,
    /// `first`, and the correction for what the examples of the group have in common.
    pub second: f64,
}

/// The influence of the examples of `group` together, per query `[Q]`.
///
/// Let θ(t) minimise (1/N) Σ_i L_i − (t/N) Σ_{m ∈ U} L_m + (λ/2)‖θ‖², so that t = 1 is training without U. With
/// g_U = Σ_{m ∈ U} ∇L_m and G_U = (1/|U|) Σ_{m ∈ U} J_mᵀ H_m J_m, the curvature of the group's own mean loss, two
/// derivatives of the stationarity in t at 0 give
///
/// - θ′ = (G + λI)⁻¹ g_U / N,
/// - θ″ = 2 (G + λI)⁻¹ p G_U θ′, with p = |U| / N,
///
/// where third derivatives of the loss are left out, as in the paper. f(θ(1)) − f(θ) ≈ ∇fᵀ(θ′ + ½θ″) =
/// −(1/N) [`first` + p xᵀ G_U (G + λI)⁻¹ g_U], with the prepared query x = −(G + λI)⁻¹ ∇f and `first` = xᵀ g_U.
///
/// The paper divides the losses that remain by N − |U|, and has no λ. At a stationary θ with λ = 0 its estimates are
/// `first` / (1 − p), and (1 − 2p) `first` / (1 − p)² + (`second` − `first`) / (1 − p)²: the same to second order in p.
///
/// `queries` must be prepared with the same `inverse` = (G + λI)⁻¹, at full rank or low, and `n_train` is N.
///
/// # Errors
/// An empty group, data that the model does not take, and what the inverse meets.
pub fn group_influence<B: Folds>(
    model: &Model<B>,
    queries: &Queries<B>,
    group: &[Batch],
    inverse: &dyn LinearOperator<B>,
    n_train: usize,
) -> Result<Vec<GroupInfluence>> {
    let curvature = GaussNewton::new(model, group);
    if curvature.n_examples() == 0 {
        return Err(AttributionError::NoGroup);
    }
    let backend = model.backend();
    let mut gradient = model.zero_direction();
    for batch in group {
        model.add_gradient(batch, Objective::TrainLoss, &mut gradient)?;
    }
    let shared = curvature.apply(&inverse.apply(&gradient)?)?;
    let p = curvature.n_examples() as f64 / n_train as f64;
    let influence = |query| {
        let (mut first, mut correction) = (0.0, 0.0);
        for (layer, spec) in model.layers().iter().enumerate() {
            let x = queries.gradient(backend, spec, layer, query)?;
            first += backend.dot(&x, &gradient[layer])?;
            correction += p * backend.dot(&x, &shared[layer])?;
        }
        Ok(GroupInfluence { first, second: first + correction })
    };
    (0..queries.len()).map(influence).collect()
}
