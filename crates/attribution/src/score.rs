//! One pass over the train set: products of prepared queries with the gradient of every example.

use etymon_data::{Batch, BatchLimits, Batches, DataError, Example, ExampleIndex, Padding};
use etymon_model::{Consumer, LayerIo, Model, ModelError, Objective, Tap};
use etymon_tensor::{Folds, Shape};

use crate::queries::LayerQueries;
use crate::{AttributionError, Queries, Result, ScoreBlock, ScoreSink};

/// Which parts of a score are wanted beside the total.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// Per layer.
    pub layers: bool,
    /// Per token.
    pub tokens: bool,
}

/// Scores `examples` against all queries; blocks reach the sink in order.
///
/// # Errors
/// Data that cannot be read or that the model does not take, and errors of the sink.
pub fn score<B: Folds>(
    model: &Model<B>,
    queries: &Queries<B>,
    examples: impl Iterator<Item = std::result::Result<Example, DataError>>,
    limits: BatchLimits,
    parts: Parts,
    sink: &mut dyn ScoreSink,
) -> Result<()> {
    for group in Batches::new(examples, limits) {
        let examples = group?;
        for example in &examples {
            model.check(example).map_err(|source| AttributionError::Example { id: example.id.clone(), source })?;
        }
        score_batch(model, queries, &examples, Padding::None, parts, sink)?;
    }
    Ok(())
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
    let mut tap = ScoreTap::new(model.backend(), queries, examples, parts);
    model.run(&Batch::stack(examples, padding)?, Objective::TrainLoss, Consumer::Tap(&mut tap))?;
    tap.emit(examples, sink)
}

struct ScoreTap<'a, B: Folds> {
    backend: &'a B,
    queries: &'a Queries<B>,
    parts: Parts,
    /// Rows of each example.
    n_rows: Vec<usize>,
    /// `[n, Q]`.
    totals: Vec<f64>,
    layers: Vec<Vec<f32>>,
    /// Per example `[rows, Q]`.
    tokens: Vec<Vec<f64>>,
}

impl<'a, B: Folds> ScoreTap<'a, B> {
    fn new(backend: &'a B, queries: &'a Queries<B>, examples: &[Example], parts: Parts) -> Self {
        let q = queries.len();
        let n_layers = if parts.layers { queries.layers.len() } else { 0 };
        let n_rows: Vec<usize> = examples.iter().map(Example::n_rows).collect();
        let tokens = if parts.tokens { n_rows.iter().map(|n| vec![0.0; n * q]).collect() } else { Vec::new() };
        Self {
            backend,
            queries,
            parts,
            n_rows,
            totals: vec![0.0; examples.len() * q],
            layers: vec![vec![0.0; examples.len() * q]; n_layers],
            tokens,
        }
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

    fn emit(self, examples: &[Example], sink: &mut dyn ScoreSink) -> Result<()> {
        require_finite(examples, &self.totals)?;
        let narrow = |x: &[f64]| x.iter().map(|&x| x as f32).collect::<Vec<f32>>();
        let tokens: Vec<Vec<f32>> = self.tokens.iter().map(|t| narrow(t)).collect();
        sink.block(&ScoreBlock {
            examples,
            scores: &narrow(&self.totals),
            layers: self.parts.layers.then_some(self.layers.as_slice()),
            tokens: self.parts.tokens.then_some(tokens.as_slice()),
        })
    }
}

/// Refuses scores `[n, Q]` of `examples` that are NaN or infinite.
pub(crate) fn require_finite(examples: &[Example], scores: &[f64]) -> Result<()> {
    let per_example = scores.len() / examples.len().max(1);
    match scores.iter().position(|x| !x.is_finite()) {
        Some(i) => Err(AttributionError::ScoreNotFinite { id: examples[i / per_example].id.clone() }),
        None => Ok(()),
    }
}

impl<B: Folds> Tap<B> for ScoreTap<'_, B> {
    fn layer(&mut self, io: LayerIo<'_, B>) -> std::result::Result<(), ModelError> {
        let q = self.queries.len();
        let (by_example, by_row) = self.products(&io)?;
        let first = io.first_example * q;
        for (i, x) in self.backend.download::<f32>(&by_example).into_iter().enumerate() {
            self.totals[first + i] += f64::from(x);
            if let Some(layer) = self.layers.get_mut(io.layer.0) {
                layer[first + i] += x;
            }
        }
        if let (true, Some(by_row)) = (self.parts.tokens, by_row) {
            let rows = self.backend.download::<f64>(&by_row);
            for (i, segment) in io.segments.iter().enumerate() {
                let example = io.first_example + i;
                // The vocabulary head has only the rows that carry a loss term: the last ones of the example.
                let skipped = self.n_rows[example] - segment.len;
                let into = &mut self.tokens[example][skipped * q..];
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
