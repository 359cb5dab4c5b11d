//! One pass over the train set: products of prepared queries with the gradient of every example.

use etymon_data::{Batch, BatchLimits, DataError, Example, Padding};
use etymon_model::{Consumer, LayerIo, Model, ModelError, Objective, Tap};
use etymon_tensor::{Buffer, Folds, Shape};

use crate::kept::LayerQueries;
use crate::pass::{BatchScores, Columns, WindowScores, pass};
use crate::{Queries, Result, ScoreSink, SquaredNorm};

/// Which parts of a score are wanted beside the total.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// Per layer.
    pub layers: bool,
    /// Per token.
    pub tokens: bool,
}

/// What one pass over a train set computes for every example.
#[derive(Debug)]
pub struct Wanted<'a, B: Folds> {
    /// Products with sets of prepared queries, such as those of several methods.
    pub queries: &'a [&'a Queries<B>],
    /// Norms of its own gradient.
    pub norms: &'a [SquaredNorm<B>],
}

impl<B: Folds> Clone for Wanted<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B: Folds> Copy for Wanted<'_, B> {}

impl<B: Folds> Wanted<'_, B> {
    fn columns(&self, parts: Parts) -> Columns {
        Columns { queries: self.queries.iter().map(|set| set.len()).sum(), norms: self.norms.len(), parts }
    }
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
    score_all(model, Wanted { queries: &[queries], norms: &[] }, examples, limits, parts, sink)
}

/// As [`score`], of several sets of queries, and norms beside them, in one pass. The blocks have a column for each query, set
/// after set, then one for each norm; scores per layer and token are of the queries alone.
///
/// # Errors
/// As [`score`].
pub fn score_all<B: Folds>(
    model: &Model<B>,
    wanted: Wanted<'_, B>,
    examples: impl Iterator<Item = std::result::Result<Example, DataError>> + Send,
    limits: BatchLimits,
    parts: Parts,
    sink: &mut dyn ScoreSink,
) -> Result<()> {
    pass(model, examples, limits, wanted.columns(parts), sink, |batch| run(model, wanted, batch, parts))
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
    let wanted = Wanted { queries: &[queries], norms: &[] };
    let scores = run(model, wanted, &Batch::stack(examples, padding)?, parts)?;
    let mut window = WindowScores::new(examples.len(), wanted.columns(parts));
    window.put(&(0..examples.len()).collect::<Vec<_>>(), scores);
    window.emit(examples, sink)
}

fn run<B: Folds>(model: &Model<B>, wanted: Wanted<'_, B>, batch: &Batch, parts: Parts) -> Result<BatchScores> {
    let mut tap = ScoreTap::new(model, wanted, batch, parts);
    model.run(batch, Objective::TrainLoss, Consumer::Tap(&mut tap))?;
    Ok(tap.scores)
}

struct ScoreTap<'a, B: Folds> {
    backend: &'a B,
    wanted: Wanted<'a, B>,
    columns: Columns,
    /// Rows of each example, where tokens are wanted.
    n_rows: Vec<usize>,
    scores: BatchScores,
}

impl<'a, B: Folds> ScoreTap<'a, B> {
    fn new(model: &'a Model<B>, wanted: Wanted<'a, B>, batch: &Batch, parts: Parts) -> Self {
        let (n, columns) = (batch.n_examples(), wanted.columns(parts));
        let n_layers = if parts.layers { model.layers().len() } else { 0 };
        let n_rows = if parts.tokens { batch.example_rows() } else { Vec::new() };
        let tokens = n_rows.iter().map(|n| Buffer::zeros(n * columns.queries)).collect();
        let layers = vec![Buffer::zeros(n * columns.queries); n_layers];
        let scores = BatchScores { totals: Buffer::zeros(n * columns.all()), layers, tokens };
        Self { backend: model.backend(), wanted, columns, n_rows, scores }
    }

    /// The products of one layer with a set of queries: per example `[n, Q]`, and per row `[T, Q]` where it costs nothing
    /// more or is asked for.
    fn products(&self, io: &LayerIo<'_, B>, queries: &Queries<B>) -> Result<(B::Tensor, Option<B::Tensor>)> {
        let (backend, tokens) = (self.backend, self.columns.parts.tokens);
        let by_row = match &queries.layers[io.layer.0] {
            LayerQueries::Low { u, v, rank } => {
                if !tokens {
                    return Ok((backend.low_rank_example_dots(io.dout, io.input, io.segments, u, v, *rank)?, None));
                }
                backend.low_rank_token_dots(io.dout, io.input, u, v, *rank)?
            }
            LayerQueries::Full(all) if tokens => {
                let shape = Shape::new(backend.shape(io.dout).cols, backend.shape(io.input).cols);
                let mut columns = Vec::with_capacity(queries.len());
                for q in 0..queries.len() {
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

    /// Adds the products with a set of queries, whose first column is `column`.
    fn add_queries(&mut self, io: &LayerIo<'_, B>, column: usize, queries: &Queries<B>) -> Result<()> {
        let (q, width, all) = (queries.len(), self.columns.queries, self.columns.all());
        let (by_example, by_row) = self.products(io, queries)?;
        for (i, row) in self.backend.download::<f32>(&by_example).chunks_exact(q.max(1)).enumerate() {
            let example = io.first_example + i;
            for (j, &x) in row.iter().enumerate() {
                self.scores.totals[example * all + column + j] += f64::from(x);
                if let Some(layer) = self.scores.layers.get_mut(io.layer.0) {
                    layer[example * width + column + j] += x;
                }
            }
        }
        let Some(by_row) = by_row.filter(|_| self.columns.parts.tokens) else { return Ok(()) };
        let rows = self.backend.download::<f64>(&by_row);
        for (i, segment) in io.segments.iter().enumerate() {
            let example = io.first_example + i;
            // The vocabulary head has only the rows that carry a loss term: the last ones of the example.
            let skipped = self.n_rows[example] - segment.len;
            let into = self.scores.tokens[example][skipped * width..].chunks_exact_mut(width);
            let from = rows[segment.start * q..(segment.start + segment.len) * q].chunks_exact(q);
            for (into, from) in into.zip(from) {
                into[column..column + q].iter_mut().zip(from).for_each(|(x, y)| *x += y);
            }
        }
        Ok(())
    }
}

impl<B: Folds> Tap<B> for ScoreTap<'_, B> {
    fn layer(&mut self, io: LayerIo<'_, B>) -> std::result::Result<(), ModelError> {
        let mut column = 0;
        for queries in self.wanted.queries {
            self.add_queries(&io, column, queries)?;
            column += queries.len();
        }
        for norm in self.wanted.norms {
            for (i, x) in norm.at_layer(self.backend, &io)?.iter().enumerate() {
                self.scores.totals[(io.first_example + i) * self.columns.all() + column] += x;
            }
            column += 1;
        }
        Ok(())
    }
}
