//! Where scores go, block by block.

use etymon_data::Example;
use etymon_tensor::Buffer;

use crate::Result;

/// The scores of some consecutive train examples.
#[derive(Clone, Copy, Debug)]
pub struct ScoreBlock<'a> {
    /// The examples, in train-set order.
    pub examples: &'a [Example],
    /// `[n, Q]` I(q, m), row major.
    pub scores: &'a [f32],
    /// `[n, Q]` per layer, if asked for; they add up to `scores`.
    pub layers: Option<&'a [Buffer<f32>]>,
    /// Per example `[rows, Q]`, row major, if asked for; row t belongs to the position that predicts token t + 1. They
    /// add up to `scores`.
    pub tokens: Option<&'a [Buffer<f32>]>,
}

/// Receives scores. Implementations write tables, keep the top, or collect.
pub trait ScoreSink {
    /// One block.
    ///
    /// # Errors
    /// Whatever the sink meets; wrap it with [`crate::AttributionError::sink`].
    fn block(&mut self, block: &ScoreBlock<'_>) -> Result<()>;
}

/// Several sinks as one.
pub struct Tee<'a>(pub Vec<&'a mut dyn ScoreSink>);

impl ScoreSink for Tee<'_> {
    fn block(&mut self, block: &ScoreBlock<'_>) -> Result<()> {
        self.0.iter_mut().try_for_each(|sink| sink.block(block))
    }
}
