//! Squared norms of the gradients of examples, ∇Lᵀ (G + λI)⁻¹ ∇L: the self-influence of an example (f := −L), and what cosine
//! and RelatIF divide by.

use etymon_curvature::{LayerPreconditioner, Preconditioner};
use etymon_data::{Batch, BatchLimits, Batches, DataError, Example, Padding};
use etymon_model::{Consumer, LayerId, LayerIo, LayerSpec, Model, ModelError, Objective, Tap};
use etymon_tensor::{Buffer, Folds, Shape};

use crate::score::{Wanted, score_all};
use crate::{Parts, Result, ScoreSink};

/// The metric of a norm, ready for the layers of a model.
#[derive(Clone, Debug)]
pub struct SquaredNorm<B: Folds> {
    layers: Vec<Weights<B>>,
}

impl<B: Folds> SquaredNorm<B> {
    /// ‖·‖² in (G + λI)⁻¹, or the Euclidean one where the curvature is the identity.
    ///
    /// # Errors
    /// As [`Preconditioner::layer`].
    pub fn new(model: &Model<B>, preconditioner: Preconditioner<'_>) -> Result<Self> {
        let (backend, specs) = (model.backend(), model.layers());
        let weights = |(i, spec)| Weights::new(backend, &preconditioner, spec, LayerId(i));
        Ok(Self { layers: specs.iter().enumerate().map(weights).collect::<Result<_>>()? })
    }

    /// `[n_examples]` The norms of the examples' gradients at a layer; over all layers they add up.
    pub(crate) fn at_layer(&self, backend: &B, io: &LayerIo<'_, B>) -> Result<Buffer<f64>> {
        let Weights { damped, inverse } = &self.layers[io.layer.0];
        let rotated;
        let (mut input, mut dout) = (io.input, io.dout);
        if let Some(damped) = damped {
            rotated = damped.factors.rotate_rows(backend, input, dout)?;
            (input, dout) = (&rotated.0, &rotated.1);
        }
        Ok(backend.weighted_squares(dout, input, io.segments, inverse)?)
    }

    /// `[examples.len()]` The squared norms of the gradients of an objective.
    ///
    /// # Errors
    /// Examples that the model does not take.
    pub fn of(
        &self,
        model: &Model<B>,
        examples: &[Example],
        objective: Objective,
        limits: BatchLimits,
    ) -> Result<Vec<f64>> {
        let mut norms = Vec::with_capacity(examples.len());
        for group in Batches::new(examples.iter().cloned().map(Ok), limits) {
            let batch = Batch::stack(&group?, Padding::None)?;
            let mut tap = NormTap { backend: model.backend(), norm: self, squares: vec![0.0; batch.n_examples()] };
            model.run(&batch, objective, Consumer::Tap(&mut tap))?;
            norms.extend(tap.squares);
        }
        Ok(norms)
    }
}

/// Scores every example on itself; the sink sees one query.
///
/// # Errors
/// As [`score`](crate::score).
pub fn self_influence<B: Folds>(
    model: &Model<B>,
    preconditioner: Preconditioner<'_>,
    examples: impl Iterator<Item = std::result::Result<Example, DataError>> + Send,
    limits: BatchLimits,
    sink: &mut dyn ScoreSink,
) -> Result<()> {
    let norm = SquaredNorm::new(model, preconditioner)?;
    score_all(model, Wanted { queries: &[], norms: &[norm] }, examples, limits, Parts::default(), sink)
}

/// 1 ⊘ (Λ + λ) of a layer, and its eigenbases unless the curvature is the identity.
#[derive(Clone, Debug)]
struct Weights<B: Folds> {
    damped: Option<LayerPreconditioner<B>>,
    inverse: B::Tensor,
}

impl<B: Folds> Weights<B> {
    fn new(backend: &B, preconditioner: &Preconditioner<'_>, spec: &LayerSpec, layer: LayerId) -> Result<Self> {
        let damped = preconditioner.layer(backend, layer)?;
        let inverse = match &damped {
            Some(damped) => damped.inverse_spectrum(backend)?,
            None => {
                let shape = Shape::new(spec.d_out, spec.d_in);
                backend.upload(shape, &vec![1.0f32; shape.len()])?
            }
        };
        Ok(Self { damped, inverse })
    }
}

struct NormTap<'a, B: Folds> {
    backend: &'a B,
    norm: &'a SquaredNorm<B>,
    squares: Vec<f64>,
}

impl<B: Folds> Tap<B> for NormTap<'_, B> {
    fn layer(&mut self, io: LayerIo<'_, B>) -> std::result::Result<(), ModelError> {
        let parts = self.norm.at_layer(self.backend, &io)?;
        self.squares[io.first_example..].iter_mut().zip(parts.iter()).for_each(|(x, y)| *x += y);
        Ok(())
    }
}
