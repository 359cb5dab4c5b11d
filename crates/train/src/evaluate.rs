//! Objectives of many examples, without gradients.

use std::ops::Range;

use etymon_data::{Batch, BatchLimits, Example, Padding};
use etymon_model::{Consumer, Model, Objective};
use etymon_tensor::Backend;

use crate::Result;

/// `[examples.len()]` The value of an objective for each example (a sum over its predicted positions), in batches
/// within `limits`.
///
/// # Errors
/// An example that the model does not take.
pub fn evaluate<B: Backend>(
    model: &Model<B>,
    examples: &[Example],
    objective: Objective,
    limits: BatchLimits,
) -> Result<Vec<f64>> {
    let mut values = Vec::with_capacity(examples.len());
    for range in ranges(examples.iter().map(Example::n_rows), limits) {
        let batch = Batch::stack(&examples[range], Padding::None)?;
        values.extend(model.run(&batch, objective, Consumer::Values)?);
    }
    Ok(values)
}

/// `[examples.len()]` The train loss L of each example: the sum over its predicted positions, in nats.
///
/// # Errors
/// As [`evaluate`].
pub fn losses<B: Backend>(model: &Model<B>, examples: &[Example], limits: BatchLimits) -> Result<Vec<f64>> {
    evaluate(model, examples, Objective::TrainLoss, limits)
}

/// Consecutive examples of the given numbers of rows, grouped within `limits`; one that is too large is a group of its
/// own.
pub(crate) fn ranges(rows: impl Iterator<Item = usize>, limits: BatchLimits) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    let mut filled = 0usize;
    for (i, rows) in rows.enumerate() {
        match ranges.last_mut() {
            Some(last) if last.len() < limits.max_examples && filled + rows <= limits.max_rows => {
                last.end = i + 1;
                filled += rows;
            }
            _ => {
                ranges.push(i..i + 1);
                filled = rows;
            }
        }
    }
    ranges
}
