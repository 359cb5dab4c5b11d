//! The last hidden state, as a description of an example.

use etymon_data::{Batch, Input};
use etymon_tensor::{Backend, Buffer, Segment, Shape};

use crate::decoder::TokenRows;
use crate::model::{Arch, check_tokens, convert};
use crate::tap::LossRows;
use crate::{Model, ModelError, Result};

impl<B: Backend> Model<B> {
    /// What the last layer reads of each example, `[n_examples, d]` row major: of a language model the hidden state after
    /// the final norm, before the vocabulary head, as the mean over the rows that carry a loss term (of a query, those
    /// that predict its completion); of an MLP the input of its last layer. Means are in f64.
    ///
    /// # Errors
    /// Data that the model does not take (kind, vocabulary, context, number of features).
    pub fn features(&self, batch: &Batch) -> Result<Buffer<f64>> {
        let hidden = self.last_inputs(batch)?;
        let values = self.backend().download(&hidden);
        Ok(match &batch.input {
            Input::Tokens { loss_segments, .. } => {
                means(&values, self.backend().shape(&hidden).cols, &convert(loss_segments))
            }
            Input::Features { .. } => values,
        })
    }

    /// What the last layer reads: `[loss rows, d]` of a language model, after the final norm; `[n_examples, d]` of rows of
    /// features.
    pub(crate) fn last_inputs(&self, batch: &Batch) -> Result<B::Tensor> {
        let (backend, params) = (self.backend(), self.params());
        match (self.arch(), &batch.input) {
            (Arch::Decoder(decoder), Input::Tokens { ids, positions, segments, loss_rows, .. }) => {
                for segment in segments {
                    check_tokens(&ids[segment.range()], decoder.config.vocab, decoder.config.context)?;
                }
                let (segments, wanted) = (convert(segments), picked(loss_rows));
                let rows = TokenRows { positions, segments: &segments, loss_rows: LossRows::Some(&wanted) };
                decoder.hidden(backend, params, ids, &rows, &wanted)
            }
            (Arch::Net(net), Input::Features { .. }) => net.last_input(backend, params, &self.upload_rows(batch)?),
            (arch, _) => Err(arch.wrong_kind()),
        }
    }

    /// The rows of a batch of features `[n_examples, n_features]`, on the backend.
    pub(crate) fn upload_rows(&self, batch: &Batch) -> Result<B::Tensor> {
        let (Arch::Net(net), Input::Features { values, n_features, targets }) = (self.arch(), &batch.input) else {
            return Err(self.arch().wrong_kind());
        };
        if *n_features != net.features {
            return Err(ModelError::Features { expected: net.features, got: *n_features });
        }
        Ok(self.backend().upload(Shape::new(targets.len(), *n_features), values)?)
    }
}

/// The rows that carry a loss term, as places in a batch.
pub(crate) fn picked(loss_rows: &[u32]) -> Buffer<usize> {
    loss_rows.iter().map(|&r| r as usize).collect()
}

/// Mean of the rows of each segment: x `[T, d]` → `[segments.len(), d]`.
fn means(x: &[f64], d: usize, segments: &[Segment]) -> Buffer<f64> {
    let mut means = Buffer::zeros(segments.len() * d);
    for (mean, segment) in means.chunks_exact_mut(d).zip(segments) {
        for row in x[segment.start * d..(segment.start + segment.len) * d].chunks_exact(d) {
            mean.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
        }
        mean.iter_mut().for_each(|sum| *sum /= segment.len as f64);
    }
    means
}
