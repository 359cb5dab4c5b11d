//! A model against another of the same shape: the Bregman divergence of their outputs.

use std::sync::Arc;

use etymon_data::{Batch, Input};
use etymon_tensor::{Backend, Buffer, Segment};

use crate::Result;
use crate::decoder::{Stacked, TokenRows};
use crate::features::picked;
use crate::head::{HeadBatch, HeadGoal};
use crate::layers::Linear;
use crate::model::{Arch, Model, convert};
use crate::net::Goal;
use crate::params::Params;
use crate::tap::{Consumer, LossRows};

/// The outputs of a model on a batch: as the inputs of its last layer, so that a large vocabulary takes no room.
#[derive(Clone, Debug)]
pub struct Reference<B: Backend> {
    /// `[loss rows, d]`
    hidden: B::Tensor,
    params: Arc<Params<B>>,
}

impl<B: Backend> Reference<B> {
    /// The outputs `[rows.len, d_out]` of the last layer `head` at some rows.
    pub(crate) fn outputs(&self, backend: &B, head: &Linear, rows: Segment) -> Result<B::Tensor> {
        let part = backend.slice_rows(&self.hidden, rows.start, rows.len)?;
        let bias = head.bias.map(|id| self.params.get(id));
        Ok(backend.linear_forward(&part, self.params.get(head.weight), bias)?)
    }
}

impl<B: Backend> Model<B> {
    /// What [`divergence`](Self::divergence) compares with, of this model as it is.
    ///
    /// # Errors
    /// Data that the model does not take.
    pub fn reference(&self, batch: &Batch) -> Result<Reference<B>> {
        Ok(Reference { hidden: self.last_inputs(batch)?, params: self.shared_params() })
    }

    /// D_L(h, h') of each example `[n_examples]`, summed over its rows that carry a loss term: the Bregman divergence of the
    /// train loss between the outputs h of this model and h' of the reference (Bae et al. 2022, 2209.05364, §4), which is
    /// KL(p' ‖ p) for cross entropy and ½‖h − h'‖² for squared error. Labels do not enter. The consumer gets its gradient.
    ///
    /// # Errors
    /// Data that the model does not take, a reference of another batch, and errors of the tap.
    pub fn divergence(&self, batch: &Batch, reference: &Reference<B>, mut to: Consumer<'_, B>) -> Result<Buffer<f64>> {
        let (backend, params) = (self.backend(), self.params());
        let values = match (self.arch(), &batch.input) {
            (Arch::Decoder(decoder), Input::Tokens { ids, positions, segments, loss_rows, loss_segments, .. }) => {
                let (segments, loss_segments, picked) = (convert(segments), convert(loss_segments), picked(loss_rows));
                let rows = TokenRows { positions, segments: &segments, loss_rows: LossRows::Some(&picked) };
                let head = HeadBatch { goal: HeadGoal::Reference(reference), loss_segments: &loss_segments };
                let values = decoder.run(backend, params, &Stacked { ids, rows, head }, &mut to)?;
                loss_segments.iter().map(|s| values[s.range()].iter().sum()).collect()
            }
            (Arch::Net(net), Input::Features { .. }) => {
                net.run(backend, params, &self.upload_rows(batch)?, &Goal::Reference(reference), &mut to)?
            }
            (arch, _) => return Err(arch.wrong_kind()),
        };
        self.end_batch(batch, &mut to)?;
        Ok(values)
    }
}
