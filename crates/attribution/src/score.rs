//! One pass over the train set: products of prepared queries with the gradient of every example.

use etymon_data::{Batch, BatchLimits, DataError, Example, ExampleIndex, Padding};
use etymon_model::{Consumer, LayerIo, Model, ModelError, Objective, Tap};
use etymon_tensor::{Buffer, Folds, Shape};

use crate::kept::LayerQueries;
use crate::pass::{BatchScores, WindowScores, pass};
use crate::{Queries, Result, ScoreSink};

/// Which parts of a score are wanted beside the total.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// Per layer.
    pub layers: bool,
    /// Per token.
    pub tokens: bool,
}

/// Scores `examples` against all queries; blocks reach the sink in order. The examples are read and stacked on a thread
/// of their own, ahead of the computation; without parts, in batches of similar lengths.
///
/// # Errors
/// Data that cannot be read or that the model does not take, and errors of the sink.
pub fn score<B: Folds>(
    model: &Model<B>,
    queries: &Queries<B>,
    examples: impl Iterator<Item = std::result::Result<Example, DataError>> + Send,
    limits: BatchLimits,
    parts: Parts,
    sink: &mut dyn ScoreSink,
) -> Result<()> {
    let shape = (queries.len(), parts);
    pass(model, examples, limits, shape, sink, |batch| run(model, queries, batch, parts))
}

/// Scores the examples of one batch, stacked with or without padding.
///
/// # Errors
/// As [`score`].
pub fn score_batch<B: Folds>(
    model: &Model<B>,
    queries: &Queries<B>,
    examples: &[Example],
    padding: Padding,
    parts: Parts,
    sink: &mut dyn ScoreSink,
) -> Result<()> {
    let scores = run(model, queries, &Batch::stack(examples, padding)?, parts)?;
    let mut window = WindowScores::new(examples.len(), queries.len(), parts);
    window.put(&(0..examples.len()).collect::<Vec<_>>(), scores);
    window.emit(examples, sink)
}

fn run<B: Folds>(model: &Model<B>, queries: &Queries<B>, batch: &Batch, parts: Parts) -> Result<BatchScores> {
    let mut tap = ScoreTap::new(model.backend(), queries, batch, parts);
    model.run(batch, Objective::TrainLoss, Consumer::Tap(&mut tap))?;
    Ok(tap.scores)
}

struct ScoreTap<'a, B: Folds> {
    backend: &'a B,
    queries: &'a Queries<B>,
    parts: Parts,
    /// Rows of each example, where tokens are wanted.
    n_rows: Vec<usize>,
    scores: BatchScores,
}

impl<'a, B: Folds> ScoreTap<'a, B> {
    fn new(backend: &'a B, queries: &'a Queries<B>, batch: &Batch, parts: Parts) -> Self {
        let (n, q) = (batch.n_examples(), queries.len());
        let n_layers = if parts.layers { queries.layers.len() } else { 0 };
        let n_rows = if parts.tokens { batch.example_rows() } else { Vec::new() };
        let tokens = n_rows.iter().map(|n| Buffer::zeros(n * q)).collect();
        let layers = vec![Buffer::zeros(n * q); n_layers];
        let scores = BatchScores { totals: Buffer::zeros(n * q), layers, tokens };
        Self { backend, queries, parts, n_rows, scores }
    }

    /// The products of one layer: per example `[n, Q]`, and per row `[T, Q]` where it costs nothing more or is asked for.
    fn products(&self, io: &LayerIo<'_, B>) -> Result<(B::Tensor, Option<B::Tensor>)> {
        let backend = self.backend;
        let by_row = match &self.queries.layers[io.layer.0] {
            LayerQueries::Low { u, v, rank } => {
                if !self.parts.tokens {
                    return Ok((backend.low_rank_example_dots(io.dout, io.input, io.segments, u, v, *rank)?, None));
                }
                backend.low_rank_token_dots(io.dout, io.input, u, v, *rank)?
            }
            LayerQueries::Full(all) if self.parts.tokens => {
                let shape = Shape::new(backend.shape(io.dout).cols, backend.shape(io.input).cols);
                let mut columns = Vec::with_capacity(self.queries.len());
                for q in 0..self.queries.len() {
                    let query = backend.reshape(backend.slice_rows(all, q, 1)?, shape)?;
                    columns.push(backend.token_dots(io.dout, io.input, &query)?);
                }
                backend.concat_cols(&columns.iter().collect::<Vec<_>>())?
            }
            LayerQueries::Full(all) => {
                return Ok((backend.example_dots(io.dout, io.input, io.segments, all)?, None));
            }
        };
        Ok((backend.segment_sums(&by_row, io.segments)?, Some(by_row)))
    }
}

impl<B: Folds> Tap<B> for ScoreTap<'_, B> {
    fn layer(&mut self, io: LayerIo<'_, B>) -> std::result::Result<(), ModelError> {
        let q = self.queries.len();
        let (by_example, by_row) = self.products(&io)?;
        let first = io.first_example * q;
        for (i, &x) in self.backend.download::<f32>(&by_example).iter().enumerate() {
            self.scores.totals[first + i] += f64::from(x);
            if let Some(layer) = self.scores.layers.get_mut(io.layer.0) {
                layer[first + i] += x;
            }
        }
        if let (true, Some(by_row)) = (self.parts.tokens, by_row) {
            let rows = self.backend.download::<f64>(&by_row);
            for (i, segment) in io.segments.iter().enumerate() {
                let example = io.first_example + i;
                // The vocabulary head has only the rows that carry a loss term: the last ones of the example.
                let skipped = self.n_rows[example] - segment.len;
                let into = &mut self.scores.tokens[example][skipped * q..];
                let from = &rows[segment.start * q..(segment.start + segment.len) * q];
                into.iter_mut().zip(from).for_each(|(x, y)| *x += y);
            }
        }
        Ok(())
    }

    fn end_batch(&mut self, _: &[ExampleIndex]) -> std::result::Result<(), ModelError> {
        Ok(())
    }
}
