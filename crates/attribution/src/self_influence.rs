//! Self-influence: I(z, z) with f := −L, that is ∇Lᵀ (G + λI)⁻¹ ∇L.

use etymon_curvature::{LayerPreconditioner, Preconditioner};
use etymon_data::{BatchLimits, DataError, Example};
use etymon_model::{Consumer, LayerId, LayerIo, LayerSpec, Model, ModelError, Objective, Tap};
use etymon_tensor::{Buffer, Folds, Shape};

use crate::pass::{BatchScores, pass};
use crate::{Parts, Result, ScoreSink};

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
    let (backend, specs) = (model.backend(), model.layers());
    let layers = (0..specs.len())
        .map(|i| Weights::new(backend, &preconditioner, &specs[i], LayerId(i)))
        .collect::<Result<Vec<_>>>()?;
    pass(model, examples, limits, (1, Parts::default()), sink, |batch| {
        let mut tap = SelfTap { backend, layers: &layers, totals: Buffer::zeros(batch.n_examples()) };
        model.run(batch, Objective::TrainLoss, Consumer::Tap(&mut tap))?;
        Ok(BatchScores { totals: tap.totals, ..BatchScores::default() })
    })
}

/// 1 ⊘ (Λ + λ) of a layer, and its eigenbases unless the curvature is the identity.
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

struct SelfTap<'a, B: Folds> {
    backend: &'a B,
    layers: &'a [Weights<B>],
    totals: Buffer<f64>,
}

impl<B: Folds> Tap<B> for SelfTap<'_, B> {
    fn layer(&mut self, io: LayerIo<'_, B>) -> std::result::Result<(), ModelError> {
        let Weights { damped, inverse } = &self.layers[io.layer.0];
        let rotated;
        let (mut input, mut dout) = (io.input, io.dout);
        if let Some(damped) = damped {
            rotated = damped.factors.rotate_rows(self.backend, input, dout)?;
            (input, dout) = (&rotated.0, &rotated.1);
        }
        let parts = self.backend.weighted_squares(dout, input, io.segments, inverse)?;
        self.totals[io.first_example..].iter_mut().zip(parts.iter()).for_each(|(x, y)| *x += y);
        Ok(())
    }
}
