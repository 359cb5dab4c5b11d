//! What is retrained, and what is looked at afterwards.

use etymon_data::{BatchLimits, Content, Example, ExampleIndex, Target};
use etymon_model::{Model, Objective};
use etymon_tensor::Backend;
use etymon_train::{FinetuneConfig, Plan, evaluate};

use crate::{EvaluateError, Result};

/// A training run: the plan of the [`Retraining`](crate::Retraining) with another seed, without some examples.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct World {
    /// Seed of the streams `init` (of a new model) and `order`.
    pub seed: u64,
    /// The examples that are left out, ascending, none twice.
    excluded: Vec<ExampleIndex>,
}

impl World {
    /// The run with `seed` without the given examples.
    pub fn without(mut excluded: Vec<ExampleIndex>, seed: u64) -> Self {
        excluded.sort_unstable();
        excluded.dedup();
        Self { seed, excluded }
    }

    /// The examples that are left out.
    pub fn excluded(&self) -> &[ExampleIndex] {
        &self.excluded
    }
}

/// Where every world starts.
#[derive(Clone, Debug)]
pub enum Start<B: Backend> {
    /// At this model, whatever the seed.
    At(Model<B>),
    /// At a new model of the same description, from the stream `init` of the world's seed.
    New(Model<B>),
}

impl<B: Backend> Start<B> {
    /// The model, of some seed.
    pub fn model(&self) -> &Model<B> {
        match self {
            Self::At(model) | Self::New(model) => model,
        }
    }

    pub(crate) fn of(&self, seed: u64) -> Result<Model<B>> {
        match self {
            Self::At(model) => Ok(model.clone()),
            Self::New(model) => Ok(Model::new(model.backend().clone(), model.json().clone(), seed)?),
        }
    }
}

/// A second training that follows in every world, from the model that the first one made: two stages, of which the examples of
/// the first are left out.
#[derive(Clone, Debug)]
pub struct Finetuning {
    /// What of the first model stays, is pulled back, or starts anew.
    pub finetune: FinetuneConfig,
    /// Its whole train set.
    pub train: Vec<Example>,
    /// How it trains; of the seeds of worlds it takes the distance from that of the first plan. Its tie is made anew.
    pub plan: Plan,
}

/// What a probe records of each of its examples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observed {
    /// The value of an objective: the measurement f, or the train loss.
    Value(Objective),
    /// The class with the largest output, for rows of features of a classifier.
    Prediction,
}

/// What is looked at in every trained world.
#[derive(Clone, Debug)]
pub struct Probe {
    /// Names it in the files of worlds.
    pub name: &'static str,
    /// The examples.
    pub examples: Vec<Example>,
    /// What of them.
    pub observed: Observed,
}

impl Probe {
    /// `[examples.len()]` What the model shows.
    pub(crate) fn look<B: Backend>(&self, model: &Model<B>, limits: BatchLimits) -> Result<Vec<f64>> {
        match self.observed {
            Observed::Value(objective) => Ok(evaluate(model, &self.examples, objective, limits)?),
            Observed::Prediction => self.examples.iter().map(|e| prediction(model, e)).collect(),
        }
    }
}

fn prediction<B: Backend>(model: &Model<B>, example: &Example) -> Result<f64> {
    let Content::Features { values, target: Target::Class(_) } = &example.content else {
        return Err(EvaluateError::NoPrediction { id: example.id.clone() });
    };
    let outputs: Vec<f64> = model.outputs(1, values)?;
    let best = (0..outputs.len()).max_by(|&a, &b| outputs[a].total_cmp(&outputs[b]).then(b.cmp(&a)));
    Ok(best.unwrap_or(0) as f64)
}
