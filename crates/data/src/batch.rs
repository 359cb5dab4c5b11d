//! Examples stacked for a model, and the grouping of a stream of examples into batches.

use std::borrow::Borrow;

use crate::{Content, DataError, Example, ExampleIndex, Result, Target};

/// Consecutive rows of a stack.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct RowRange {
    /// First row.
    pub start: usize,
    /// Number of rows.
    pub len: usize,
}

impl RowRange {
    /// The rows as a range.
    pub const fn range(self) -> std::ops::Range<usize> {
        self.start..self.start + self.len
    }
}

/// Whether sequences are followed by rows that mean nothing.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Padding {
    /// One sequence directly after the other.
    None,
    /// Each sequence is followed by padding rows (id 0, position 0, in no segment) up to this number of rows. For tests
    /// and checks that padding changes nothing. Rows of features are never padded.
    To(usize),
}

/// A few examples as one input of a model.
#[derive(Clone, PartialEq, Debug)]
pub struct Batch {
    /// `[n_examples]` Which examples, in the order of the stack.
    pub indices: Vec<ExampleIndex>,
    /// What the model reads.
    pub input: Input,
}

/// The stacked rows of a batch. All examples of a batch are of one kind.
#[derive(Clone, PartialEq, Debug)]
pub enum Input {
    /// Sequences. Of the n tokens of an example the first n − 1 are inputs; the last one is only predicted.
    Tokens {
        /// `[rows]` Input token ids.
        ids: Vec<u32>,
        /// `[rows]` Position in the sequence, from 0.
        positions: Vec<u32>,
        /// `[n_examples]` The rows of each example; rows in no segment are padding.
        segments: Vec<RowRange>,
        /// `[loss_rows]` The rows that carry a loss term, ascending.
        loss_rows: Vec<u32>,
        /// `[loss_rows]` The token after each of these rows.
        labels: Vec<u32>,
        /// `[n_examples]` The part of `loss_rows` (and `labels`) that belongs to each example.
        loss_segments: Vec<RowRange>,
    },
    /// Rows of numbers, one per example.
    Features {
        /// `[n_examples, n_features]` Row-major.
        values: Vec<f32>,
        /// Numbers per row.
        n_features: usize,
        /// `[n_examples]` What each row should be mapped to.
        targets: Vec<Target>,
    },
}

impl Batch {
    /// Stacks examples in the given order.
    ///
    /// # Errors
    /// If there is no example, tokens and features are mixed, rows have different numbers of features, or a sequence is
    /// longer than the padding.
    pub fn stack<E: Borrow<Example>>(examples: &[E], padding: Padding) -> Result<Self> {
        let input = match examples.first().map(|e| &Borrow::<Example>::borrow(e).content) {
            None => return Err(DataError::EmptyBatch),
            Some(Content::Tokens { .. }) => stack_tokens(examples, padding)?,
            Some(Content::Features { values, .. }) => stack_features(examples, values.len())?,
        };
        Ok(Self { indices: examples.iter().map(|e| e.borrow().index).collect(), input })
    }

    /// Number of rows of the stack, padding included.
    pub fn n_rows(&self) -> usize {
        match &self.input {
            Input::Tokens { ids, .. } => ids.len(),
            Input::Features { targets, .. } => targets.len(),
        }
    }

    /// Number of rows that carry a loss term.
    pub fn n_loss_rows(&self) -> usize {
        match &self.input {
            Input::Tokens { loss_rows, .. } => loss_rows.len(),
            Input::Features { targets, .. } => targets.len(),
        }
    }

    /// `[n_examples]` Rows of each example, without padding.
    pub fn example_rows(&self) -> Vec<usize> {
        match &self.input {
            Input::Tokens { segments, .. } => segments.iter().map(|s| s.len).collect(),
            Input::Features { targets, .. } => vec![1; targets.len()],
        }
    }

    /// Number of examples.
    pub fn n_examples(&self) -> usize {
        self.indices.len()
    }
}

fn stack_tokens<E: Borrow<Example>>(examples: &[E], padding: Padding) -> Result<Input> {
    let (mut ids, mut positions, mut segments) = (Vec::new(), Vec::new(), Vec::with_capacity(examples.len()));
    let (mut loss_rows, mut labels, mut loss_segments) = (Vec::new(), Vec::new(), Vec::with_capacity(examples.len()));
    for example in examples.iter().map(Borrow::<Example>::borrow) {
        let Content::Tokens { ids: tokens, loss_start } = &example.content else {
            return Err(DataError::MixedBatch { id: example.id.clone() });
        };
        let n = tokens.len();
        if n < 2 || *loss_start < 1 || *loss_start >= n {
            return Err(DataError::LossStart { id: example.id.clone(), loss_start: *loss_start, n_tokens: n });
        }
        let start = ids.len();
        segments.push(RowRange { start, len: n - 1 });
        ids.extend_from_slice(&tokens[..n - 1]);
        positions.extend((0..n - 1).map(|t| t as u32));
        loss_segments.push(RowRange { start: loss_rows.len(), len: n - loss_start });
        loss_rows.extend((*loss_start..n).map(|t| (start + t - 1) as u32));
        labels.extend_from_slice(&tokens[*loss_start..]);
        if let Padding::To(length) = padding {
            if n - 1 > length {
                return Err(DataError::Padding { id: example.id.clone(), rows: n - 1, padding: length });
            }
            ids.resize(start + length, 0);
            positions.resize(start + length, 0);
        }
    }
    Ok(Input::Tokens { ids, positions, segments, loss_rows, labels, loss_segments })
}

fn stack_features<E: Borrow<Example>>(examples: &[E], n_features: usize) -> Result<Input> {
    let mut stacked = Vec::with_capacity(examples.len() * n_features);
    let mut targets = Vec::with_capacity(examples.len());
    for example in examples.iter().map(Borrow::<Example>::borrow) {
        let Content::Features { values, target } = &example.content else {
            return Err(DataError::MixedBatch { id: example.id.clone() });
        };
        if values.len() != n_features {
            return Err(DataError::FeatureCount { id: example.id.clone(), expected: n_features, got: values.len() });
        }
        stacked.extend_from_slice(values);
        targets.push(target.clone());
    }
    Ok(Input::Features { values: stacked, n_features, targets })
}

/// How large a batch may grow. One example that is larger than `max_rows` is a batch of its own.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct BatchLimits {
    /// Rows per batch, without padding.
    pub max_rows: usize,
    /// Examples per batch; 0 is taken as 1.
    pub max_examples: usize,
}

/// Groups a stream of examples into batches, in order. An error of the stream ends it, after the examples before it.
pub struct Batches<I> {
    examples: I,
    limits: BatchLimits,
    held: Option<Result<Example>>,
}

impl<I: Iterator<Item = Result<Example>>> Batches<I> {
    /// Batches of `examples` within `limits`.
    pub fn new(examples: I, limits: BatchLimits) -> Self {
        Self { examples, limits, held: None }
    }

    /// The stream underneath, for its counts.
    pub fn inner(&self) -> &I {
        &self.examples
    }

    fn pull(&mut self) -> Option<Result<Example>> {
        self.held.take().or_else(|| self.examples.next())
    }
}

impl<I: Iterator<Item = Result<Example>>> Iterator for Batches<I> {
    type Item = Result<Vec<Example>>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut rows = 0usize;
        let mut batch = Vec::new();
        while let Some(next) = self.pull() {
            let fits = match &next {
                _ if batch.is_empty() => true,
                Err(_) => false,
                Ok(example) => {
                    batch.len() < self.limits.max_examples && rows + example.n_rows() <= self.limits.max_rows
                }
            };
            if !fits {
                self.held = Some(next);
                break;
            }
            match next {
                Err(error) => return Some(Err(error)),
                Ok(example) => {
                    rows += example.n_rows();
                    batch.push(example);
                }
            }
        }
        if batch.is_empty() { None } else { Some(Ok(batch)) }
    }
}
