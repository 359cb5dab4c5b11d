//! What a backward pass hands out: ā and Ds of tapped layers, or the gradients of all parameters.

use etymon_data::ExampleIndex;
use etymon_tensor::{Accumulate, Backend, Segment, Transpose};

use crate::layers::{LayerId, Linear};
use crate::params::{ParamId, Params};
use crate::{ModelError, Result};

/// The rows of a stacked batch that carry a loss term.
#[derive(Clone, Copy, Debug)]
pub enum LossRows<'a> {
    /// All of them.
    All,
    /// These, ascending.
    Some(&'a [usize]),
}

/// One tapped layer of one batch.
pub struct LayerIo<'a, B: Backend> {
    /// Which layer.
    pub layer: LayerId,
    /// `[T, d_in]` ā, with a last column of ones when the layer has a bias.
    pub input: &'a B::Tensor,
    /// `[T, d_out]` Ds = ∂(Σ objective)/∂s.
    pub dout: &'a B::Tensor,
    /// Rows of each example, in the order of the batch (a part of them when `examples` says so).
    pub segments: &'a [Segment],
    /// Position in the batch of the first of `segments`: the vocabulary head arrives in parts of whole examples.
    pub first_example: usize,
    /// Which rows are rows in the sense of the covariances.
    pub loss_rows: LossRows<'a>,
}

/// Receives the tapped layers of each batch, from the last layer to the first.
pub trait Tap<B: Backend> {
    /// One layer (for the vocabulary head: some examples of one layer).
    ///
    /// # Errors
    /// Whatever the tap meets; wrap it in [`ModelError::Tap`].
    fn layer(&mut self, io: LayerIo<'_, B>) -> Result<()>;

    /// All layers of the batch have arrived.
    ///
    /// # Errors
    /// As [`Tap::layer`].
    fn end_batch(&mut self, examples: &[ExampleIndex]) -> Result<()> {
        let _ = examples;
        Ok(())
    }
}

/// Where the results of a backward pass go.
pub enum Consumer<'a, B: Backend> {
    /// ā and Ds of the tapped layers; no parameter gradient is formed.
    Tap(&'a mut dyn Tap<B>),
    /// The gradient of every parameter that is here is added to it.
    Gradients(&'a mut Params<B>),
    /// Values only: the backward pass is skipped.
    Values,
}

/// The rows of the batch that a part of the model works on.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub segments: &'a [Segment],
    pub first_example: usize,
    pub loss_rows: LossRows<'a>,
}

impl<B: Backend> Consumer<'_, B> {
    pub(crate) fn wants_backward(&self) -> bool {
        !matches!(self, Self::Values)
    }

    pub(crate) fn gradients(&mut self) -> Option<&mut Params<B>> {
        match self {
            Self::Gradients(grads) => Some(grads),
            _ => None,
        }
    }

    /// Whether a linear layer has anything for it: without that, the backward pass need not come to the layer.
    pub(crate) fn wants(&self, layer: &Linear) -> bool {
        match self {
            Self::Values => false,
            Self::Gradients(grads) => grads.first() <= layer.weight || layer.adapter.is_some(),
            Self::Tap(_) => layer.is_tapped(),
        }
    }

    /// One weight with its bias: input `[T, d_in]` without the bias column, dout `[T, d_out]`.
    pub(crate) fn weight(
        &mut self,
        backend: &B,
        layer: &Linear,
        input: &B::Tensor,
        dout: &B::Tensor,
        rows: Rows<'_>,
    ) -> Result<()> {
        match self {
            Self::Values => Ok(()),
            Self::Gradients(grads) => {
                if let Some(weight) = grads.get_mut(layer.weight) {
                    backend.matmul_into(1.0, dout, Transpose::Yes, input, Transpose::No, Accumulate::Add, weight)?;
                }
                if let Some(bias) = layer.bias.and_then(|id| grads.get_mut(id)) {
                    backend.add_column_sums(dout, bias)?;
                }
                Ok(())
            }
            Self::Tap(tap) => {
                let Some(id) = layer.tap else { return Ok(()) };
                let with_ones = layer.bias.map(|_| backend.append_ones(input));
                tap.layer(LayerIo {
                    layer: id,
                    input: with_ones.as_ref().unwrap_or(input),
                    dout,
                    segments: rows.segments,
                    first_example: rows.first_example,
                    loss_rows: rows.loss_rows,
                })
            }
        }
    }

    /// The gradient accumulators of a norm's gain and shift.
    pub(crate) fn pair(&mut self, gain: ParamId, shift: ParamId) -> Option<(&mut B::Tensor, &mut B::Tensor)> {
        self.gradients().and_then(|g| g.pair_mut(gain, shift))
    }
}

impl ModelError {
    /// Wraps the error of a tap.
    pub fn tap(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Tap(Box::new(error))
    }
}
