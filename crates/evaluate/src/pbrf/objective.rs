//! The proximal Bregman objective, and its gradient.

use etymon_data::{Batch, Example, Padding};
use etymon_model::{Consumer, Model, Objective, ParamId, Reference};
use etymon_tensor::Backend;

use super::leading::Leading;
use super::{PbrfError, Result};

/// (1/N) Σ_i D(h(θ, x_i), h(θˢ, x_i)) + ε L(z_m, θ) + Σ_ℓ (λ_ℓ/2) ‖θ_ℓ − θˢ_ℓ‖² over the weights (and biases) of the tapped
/// layers, as Bae et al. 2022 (2209.05364, eq. 6) have it, but with a λ for each layer. Parameters that are not tapped stay
/// as they are.
#[derive(Debug)]
pub struct Proximal<B: Backend> {
    base: Model<B>,
    batches: Vec<(Batch, Reference<B>)>,
    n: usize,
    /// The parameters that move.
    moves: Vec<ParamId>,
    /// `[moves]` λ of each.
    lambda: Vec<f64>,
    /// What minimisers start their inverse Hessian from.
    pub(super) leading: Option<Leading<B>>,
}

/// Value and gradient of the objective.
pub(super) type Point<B> = (f64, Vec<<B as Backend>::Tensor>);

impl<B: Backend> Proximal<B> {
    /// Around `base` = θˢ, over the train set `train` in batches of at most `batch_examples` examples, with `lambda[ℓ]` > 0 of
    /// tapped layer ℓ.
    ///
    /// # Errors
    /// An empty train set, examples that the model does not take, λ of other number than the tapped layers.
    pub fn new(base: Model<B>, train: &[Example], batch_examples: usize, lambda: &[f64]) -> Result<Self> {
        if train.is_empty() {
            return Err(PbrfError::NoExamples);
        }
        let layers = base.layer_params();
        if lambda.len() != layers.len() {
            return Err(PbrfError::Damping { layers: layers.len(), got: lambda.len() });
        }
        if let Some(&value) = lambda.iter().find(|l| !(l.is_finite() && **l > 0.0)) {
            return Err(PbrfError::Number { name: "λ", value });
        }
        let with_reference = |examples: &[Example]| {
            examples.iter().try_for_each(|e| base.check(e))?;
            let batch = Batch::stack(examples, Padding::None)?;
            let reference = base.reference(&batch)?;
            Ok((batch, reference))
        };
        let batches = train.chunks(batch_examples.max(1)).map(with_reference).collect::<Result<_>>()?;
        let of_layer = layers.iter().zip(lambda);
        let pairs: Vec<(ParamId, f64)> =
            of_layer.flat_map(|(&(w, b), &l)| std::iter::once((w, l)).chain(b.map(|b| (b, l)))).collect();
        let (moves, lambda) = pairs.into_iter().unzip();
        Ok(Self { batches, n: train.len(), moves, lambda, base, leading: None })
    }

    /// Finds the `rank` leading eigenpairs of the Gauss-Newton matrix at θˢ (of (G + λI) where λ is scaled to 1), which L-BFGS
    /// then starts its inverse Hessian from: far fewer gradients for the same minimum. 0 leaves it at 1/λ.
    ///
    /// # Errors
    /// What the products meet.
    pub fn with_leading(mut self, rank: usize) -> Result<Self> {
        let batches: Vec<Batch> = self.batches.iter().map(|(batch, _)| batch.clone()).collect();
        self.leading = (rank > 0).then(|| Leading::new(&self.base, &batches, &self.lambda, rank)).transpose()?;
        Ok(self)
    }

    /// θˢ.
    pub fn base(&self) -> &Model<B> {
        &self.base
    }

    /// N.
    pub fn n_train(&self) -> usize {
        self.n
    }

    /// `[moves]` λ of each parameter that moves.
    pub(super) fn lambda(&self) -> &[f64] {
        &self.lambda
    }

    /// θ = θˢ, as displacement of the parameters that move.
    pub(super) fn start(&self) -> Vec<B::Tensor> {
        let backend = self.base.backend();
        self.moves.iter().map(|&id| backend.zeros(backend.shape(self.base.params().get(id)))).collect()
    }

    /// Sets `model` to θˢ + δ.
    pub(super) fn displace(&self, delta: &[B::Tensor], model: &mut Model<B>) -> Result<()> {
        let backend = self.base.backend();
        for (&id, delta) in self.moves.iter().zip(delta) {
            let mut at = self.base.params().get(id).clone();
            backend.axpy(1.0, delta, &mut at)?;
            if let Some(param) = model.params_mut().get_mut(id) {
                *param = at;
            }
        }
        Ok(())
    }

    /// The objective at θˢ + δ with the example of `batch` as z_m, and its gradient in δ; `model` is overwritten.
    pub(super) fn at(
        &self,
        delta: &[B::Tensor],
        batch: &Batch,
        epsilon: f64,
        model: &mut Model<B>,
    ) -> Result<Point<B>> {
        self.displace(delta, model)?;
        let backend = self.base.backend();
        let zeros = || self.base.params().zeros_like(backend);
        let mut divergence = zeros();
        let mut value = 0.0;
        for (part, reference) in &self.batches {
            let values = model.divergence(part, reference, Consumer::Gradients(&mut divergence))?;
            value += values.iter().sum::<f64>() / self.n as f64;
        }
        let mut loss = zeros();
        let values = model.run(batch, Objective::TrainLoss, Consumer::Gradients(&mut loss))?;
        value += epsilon * values.iter().sum::<f64>();
        let mut gradient = Vec::with_capacity(self.moves.len());
        for ((&id, delta), &lambda) in self.moves.iter().zip(delta).zip(&self.lambda) {
            let mut of_param = divergence.get(id).clone();
            backend.scale(1.0 / self.n as f64, &mut of_param);
            backend.axpy(epsilon, loss.get(id), &mut of_param)?;
            backend.axpy(lambda, delta, &mut of_param)?;
            value += 0.5 * lambda * backend.dot(delta, delta)?;
            gradient.push(of_param);
        }
        Ok((value, gradient))
    }
}
