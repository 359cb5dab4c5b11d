//! Windows of a stream of examples, divided into batches of similar lengths.

use crate::{Batch, BatchLimits, Example, Padding, Result};

/// Most examples of a window of [`WindowSize::Batches`], unless one batch alone has more: they wait for each other.
const MOST: usize = 1024;

/// How far a window reaches.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum WindowSize {
    /// This many examples, and fewer only at the end of the stream; 0 is taken as 1.
    Examples(usize),
    /// The rows of this many full batches (0 is taken as 1), but no more than 1024 examples where these fill a batch.
    Batches(usize),
}

/// Consecutive examples of a stream, and batches that hold each of them once.
#[derive(Clone, PartialEq, Debug)]
pub struct Window {
    /// `[n]` In the order of the stream.
    pub examples: Vec<Example>,
    /// From short sequences to long ones.
    pub batches: Vec<WindowBatch>,
}

/// Some examples of a window, stacked.
#[derive(Clone, PartialEq, Debug)]
pub struct WindowBatch {
    /// `[n_examples]` Where each example of the batch is in the window.
    pub places: Vec<usize>,
    /// The stack, in the order of `places`.
    pub batch: Batch,
}

impl Window {
    /// Divides examples into batches within `limits`: sorted by length (ties by place), then cut into even parts. The
    /// division depends on the lengths and the limits alone.
    ///
    /// # Errors
    /// As [`Batch::stack`].
    pub fn divide(examples: Vec<Example>, limits: BatchLimits) -> Result<Self> {
        let lengths: Vec<usize> = examples.iter().map(Example::n_rows).collect();
        let stack = |places: Vec<usize>| {
            let members: Vec<&Example> = places.iter().map(|&i| &examples[i]).collect();
            Ok(WindowBatch { batch: Batch::stack(&members, Padding::None)?, places })
        };
        let batches = even_parts(&lengths, limits).into_iter().map(stack).collect::<Result<_>>()?;
        Ok(Self { examples, batches })
    }
}

/// Places `0..lengths.len()` by rising length, in as few parts as the limits allow in this order, of about equal rows.
fn even_parts(lengths: &[usize], limits: BatchLimits) -> Vec<Vec<usize>> {
    let mut places: Vec<usize> = (0..lengths.len()).collect();
    places.sort_by_key(|&i| lengths[i]);
    let fewest = cut(&places, lengths, limits, usize::MAX);
    // Without this, the last batch of every window would be a small one.
    let share = lengths.iter().sum::<usize>().div_ceil(fewest.len().max(1));
    let even = cut(&places, lengths, limits, share);
    if even.len() > fewest.len() { fewest } else { even }
}

/// Cuts `places` into parts within `limits` that end as soon as they have `enough` rows.
fn cut(places: &[usize], lengths: &[usize], limits: BatchLimits, enough: usize) -> Vec<Vec<usize>> {
    let mut parts = Vec::new();
    let (mut part, mut rows) = (Vec::new(), 0);
    for &place in places {
        let fits = rows < enough && part.len() < limits.max_examples && rows + lengths[place] <= limits.max_rows;
        if !(part.is_empty() || fits) {
            parts.push(std::mem::take(&mut part));
            rows = 0;
        }
        part.push(place);
        rows += lengths[place];
    }
    if !part.is_empty() {
        parts.push(part);
    }
    parts
}

/// Groups a stream of examples into windows. An error of the stream ends it, after a window of the examples before it.
pub struct Windows<I> {
    examples: I,
    size: WindowSize,
    limits: BatchLimits,
    held: Option<Result<Example>>,
}

impl<I: Iterator<Item = Result<Example>>> Windows<I> {
    /// Windows of `examples`, with batches within `limits`.
    pub fn new(examples: I, size: WindowSize, limits: BatchLimits) -> Self {
        Self { examples, size, limits, held: None }
    }

    /// Whether a window of `n` examples and `rows` rows takes one more of `more` rows.
    fn has_room(&self, n: usize, rows: usize, more: usize) -> bool {
        match self.size {
            WindowSize::Examples(most) => n < most,
            WindowSize::Batches(batches) => {
                let BatchLimits { max_rows, max_examples } = self.limits;
                let full = |n_batches: usize| {
                    rows.saturating_add(more) > max_rows.saturating_mul(n_batches)
                        || n >= max_examples.saturating_mul(n_batches)
                };
                !full(batches.max(1)) && (n < MOST || !full(1))
            }
        }
    }
}

impl<I: Iterator<Item = Result<Example>>> Iterator for Windows<I> {
    type Item = Result<Window>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut examples: Vec<Example> = Vec::new();
        let mut rows = 0usize;
        while let Some(next) = self.held.take().or_else(|| self.examples.next()) {
            match next {
                Err(error) if examples.is_empty() => return Some(Err(error)),
                Ok(example) if examples.is_empty() || self.has_room(examples.len(), rows, example.n_rows()) => {
                    rows += example.n_rows();
                    examples.push(example);
                }
                next => {
                    self.held = Some(next);
                    break;
                }
            }
        }
        if examples.is_empty() { None } else { Some(Window::divide(examples, self.limits)) }
    }
}
