//! What the passes over a train set share: windows of examples are read ahead, run in batches of similar lengths, and
//! their scores put back into the order of the train set.

use etymon_data::{Batch, BatchLimits, DataError, Example, Prefetch, Window, WindowSize, Windows};
use etymon_model::Model;
use etymon_tensor::{Buffer, Folds};

use crate::{AttributionError, Parts, Result, ScoreBlock, ScoreSink};

/// Batches of a window. The scores of a window are held, and lost in a crash, until its last batch is done.
pub(crate) const WINDOW: usize = 4;
/// Windows that are read and stacked while one is worked on.
const AHEAD: usize = 2;

/// What a pass computes for an example.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Columns {
    /// Scores on Q queries.
    pub queries: usize,
    /// Norms beside them.
    pub norms: usize,
    /// Parts of the scores.
    pub parts: Parts,
}

impl Columns {
    /// Scores on Q queries, without parts.
    pub fn of(queries: usize) -> Self {
        Self { queries, ..Self::default() }
    }

    /// Q, and the norms.
    pub fn all(self) -> usize {
        self.queries + self.norms
    }
}

/// The scores of a batch of n examples on Q queries.
#[derive(Default)]
pub(crate) struct BatchScores {
    /// `[n, Q + norms]`.
    pub totals: Buffer<f64>,
    /// Per layer `[n, Q]`; empty if not wanted.
    pub layers: Vec<Buffer<f32>>,
    /// Per example `[rows, Q]`; empty if not wanted.
    pub tokens: Vec<Buffer<f64>>,
}

/// Runs all examples, and gives their scores to the sink in order.
pub(crate) fn pass<B: Folds>(
    model: &Model<B>,
    examples: impl Iterator<Item = std::result::Result<Example, DataError>> + Send,
    limits: BatchLimits,
    columns: Columns,
    sink: &mut dyn ScoreSink,
    mut run: impl FnMut(&Batch) -> Result<BatchScores>,
) -> Result<()> {
    // Parts are large: one score per layer or token. No more of them are held than a batch has.
    let batches = if columns.parts == Parts::default() { WINDOW } else { 1 };
    each_window(model, examples, limits, batches, |window| {
        let mut scores = WindowScores::new(window.examples.len(), columns);
        for part in &window.batches {
            scores.put(&part.places, run(&part.batch)?);
        }
        scores.emit(&window.examples, sink)
    })
}

/// Hands all examples, once checked, to `work` in windows of `batches` batches.
pub(crate) fn each_window<B: Folds>(
    model: &Model<B>,
    examples: impl Iterator<Item = std::result::Result<Example, DataError>> + Send,
    limits: BatchLimits,
    batches: usize,
    mut work: impl FnMut(&Window) -> Result<()>,
) -> Result<()> {
    let windows = Windows::new(examples, WindowSize::Batches(batches), limits);
    std::thread::scope(|scope| {
        for window in Prefetch::spawn(scope, windows, AHEAD)? {
            let window = window?;
            for example in &window.examples {
                model.check(example).map_err(|source| AttributionError::Example { id: example.id.clone(), source })?;
            }
            work(&window)?;
        }
        Ok(())
    })
}

/// The scores of n consecutive examples, put in batch by batch.
pub(crate) struct WindowScores {
    columns: Columns,
    /// `[n, Q + norms]`.
    totals: Buffer<f64>,
    /// Per layer `[n, Q]`.
    layers: Vec<Buffer<f32>>,
    /// Per example `[rows, Q]`.
    tokens: Vec<Buffer<f32>>,
}

impl WindowScores {
    pub fn new(n: usize, columns: Columns) -> Self {
        let tokens = if columns.parts.tokens { vec![Buffer::default(); n] } else { Vec::new() };
        Self { columns, totals: Buffer::zeros(n * columns.all()), layers: Vec::new(), tokens }
    }

    /// Takes the scores of the examples at `places`.
    pub fn put(&mut self, places: &[usize], scores: BatchScores) {
        let (width, all) = (self.columns.queries, self.columns.all());
        let n = self.totals.len() / all.max(1);
        self.layers.resize_with(scores.layers.len(), || Buffer::zeros(n * width));
        scatter(all, places, &scores.totals, &mut self.totals);
        for (from, into) in scores.layers.iter().zip(&mut self.layers) {
            scatter(width, places, from, into);
        }
        for (&place, from) in places.iter().zip(&scores.tokens) {
            self.tokens[place] = narrow(from);
        }
    }

    /// Gives the scores of `examples`, all of the n, to the sink; refuses scores that are not finite.
    pub fn emit(self, examples: &[Example], sink: &mut dyn ScoreSink) -> Result<()> {
        if let Some(i) = self.totals.iter().position(|x| !x.is_finite()) {
            return Err(AttributionError::ScoreNotFinite { id: examples[i / self.columns.all()].id.clone() });
        }
        sink.block(&ScoreBlock {
            examples,
            scores: &narrow(&self.totals),
            layers: self.columns.parts.layers.then_some(self.layers.as_slice()),
            tokens: self.columns.parts.tokens.then_some(self.tokens.as_slice()),
        })
    }
}

/// Rows `[places.len(), width]` to their places in `[n, width]`.
fn scatter<T: Copy>(width: usize, places: &[usize], from: &[T], into: &mut [T]) {
    for (&place, row) in places.iter().zip(from.chunks_exact(width.max(1))) {
        into[place * width..(place + 1) * width].copy_from_slice(row);
    }
}

fn narrow(x: &[f64]) -> Buffer<f32> {
    x.iter().map(|&x| x as f32).collect()
}
