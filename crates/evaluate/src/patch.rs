//! Tail-patch: one small step on some examples, and what it does to a query (Chang et al. 2024, 2410.17413, §5.3).

use etymon_data::{BatchLimits, Example};
use etymon_model::{Measurement, Model, Objective};
use etymon_tensor::Backend;
use etymon_train::evaluate;
use etymon_train::{Decay, LastBatch, LearningRate, Length, Optimizer, Order, Plan, Reduction, Removal, Trainer};

use crate::Result;

/// The step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Patch {
    /// η of θ' = θ − η·∇ mean L over the examples: plain gradient descent, so that the result is linear in η where η is
    /// small and no optimizer's state is needed (the paper takes a step of its optimizer per example).
    pub learning_rate: f64,
    /// Rows through the model at a time.
    pub micro_batch_rows: usize,
}

/// f(θ') − f(θ) of a query, in nats, after a step on `examples`; `before` is f(θ).
///
/// # Errors
/// Examples that the model does not take, a step that diverges.
pub fn tail_patch<B: Backend>(
    model: &Model<B>,
    query: &Example,
    before: f64,
    measurement: Measurement,
    examples: Vec<Example>,
    patch: Patch,
) -> Result<f64> {
    let plan = Plan {
        order: Order::Sequential,
        removal: Removal::Refill,
        length: Length::Steps(1),
        batch_size: examples.len().max(1),
        last_batch: LastBatch::Keep,
        micro_batch_rows: patch.micro_batch_rows,
        optimizer: Optimizer::Sgd { momentum: 0.0 },
        decay: Decay::All,
        learning_rate: LearningRate::constant(patch.learning_rate),
        reduction: Reduction::ExampleMean,
        ..Plan::default()
    };
    let mut trainer = Trainer::new(model.clone(), examples, Vec::new(), plan)?;
    trainer.run(&mut ())?;
    let limits = BatchLimits { max_rows: patch.micro_batch_rows, max_examples: usize::MAX };
    let objective = Objective::Measurement(measurement);
    let after = evaluate(trainer.model(), std::slice::from_ref(query), objective, limits)?;
    Ok(after.iter().sum::<f64>() - before)
}
