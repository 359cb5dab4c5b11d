//! How to train, apart from the files.

use etymon_data::{Example, ExampleIndex};
use serde::{Deserialize, Serialize, Serializer};

use crate::finetune::Tie;
use crate::schedule::LearningRate;
use crate::{Result, TrainError};

/// In which order examples are visited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// A new random order in each epoch, from the stream `order` of the seed.
    Shuffled,
    /// The order given, in each epoch.
    Sequential,
    /// Exactly these batches; an epoch is once through them. An example may occur any number of times.
    Curriculum(Vec<Vec<ExampleIndex>>),
}

/// What fills the place of excluded examples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Removal {
    /// The examples that follow: batches stay as large, an epoch has fewer steps. What training on the subset means.
    Refill,
    /// Nothing: every step keeps the other members of its batch, and a batch with none left does nothing. The nearest
    /// world in which only the excluded examples were absent. A curriculum always does this.
    Shrink,
}

/// How long to train.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Length {
    /// Times through the train set.
    Epochs(u64),
    /// Batches, through the train set as often as that takes.
    Steps(u64),
}

/// What happens to the examples at the end of an epoch that do not fill a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LastBatch {
    /// A smaller batch.
    Keep,
    /// They are left out.
    Drop,
}

/// How a gradient becomes a step. Formulas at [`Backend`](etymon_tensor::Backend); both as PyTorch has them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Optimizer {
    /// AdamW, weight decay decoupled from the gradient.
    AdamW {
        /// β₁ of the mean of gradients.
        beta1: f64,
        /// β₂ of the mean of their squares.
        beta2: f64,
        /// ε of the denominator.
        eps: f64,
    },
    /// SGD with momentum, weight decay added to the gradient.
    Sgd {
        /// Share of the velocity that stays.
        momentum: f64,
    },
}

/// Which parameters decay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decay {
    /// Weights and embeddings; not biases and norms.
    Matrices,
    /// All.
    All,
}

/// What the loss of a batch is, given L, the sum over the predicted positions of an example.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reduction {
    /// Σ L / number of predicted positions of the batch.
    TokenMean,
    /// Σ L / number of examples of the batch.
    ExampleMean,
    /// Σ L.
    Sum,
}

impl Reduction {
    /// The factor on Σ L.
    pub(crate) fn scale(self, n_examples: usize, n_loss_rows: usize) -> f64 {
        match self {
            Self::TokenMean => 1.0 / n_loss_rows.max(1) as f64,
            Self::ExampleMean => 1.0 / n_examples.max(1) as f64,
            Self::Sum => 1.0,
        }
    }

    /// The factor on the mean L of an example that this makes the loss of a batch, on average over a train set.
    pub(crate) fn per_example(self, batch_size: usize, train: &[Example]) -> f64 {
        match self {
            Self::TokenMean => train.len() as f64 / train.iter().map(Example::n_loss_rows).sum::<usize>().max(1) as f64,
            Self::ExampleMean => 1.0,
            Self::Sum => batch_size.min(train.len()) as f64,
        }
    }
}

/// How to train a model on examples. The same plan, model and examples give the same result.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// Seed of the stream `order`.
    pub seed: u64,
    /// Order of the examples.
    #[serde(serialize_with = "order_name")]
    pub order: Order,
    /// Examples that are left out. The others keep their order: the same random stream, less what is removed.
    #[serde(serialize_with = "numbers")]
    pub excluded: Vec<ExampleIndex>,
    /// What fills their place.
    pub removal: Removal,
    /// How long.
    pub length: Length,
    /// Examples per step, ≥ 1.
    pub batch_size: usize,
    /// The last batch of an epoch.
    pub last_batch: LastBatch,
    /// Rows (tokens) that go through the model at a time, ≥ 1: memory. Gradients of the parts of a batch are added up.
    pub micro_batch_rows: usize,
    /// Optimizer.
    pub optimizer: Optimizer,
    /// Weight decay, ≥ 0.
    pub weight_decay: f64,
    /// What it applies to.
    pub decay: Decay,
    /// Learning rate.
    pub learning_rate: LearningRate,
    /// `[n_steps]` η of each step, instead of `learning_rate`: those of a curriculum that was edited.
    #[serde(serialize_with = "rates_name", skip_serializing_if = "Option::is_none")]
    pub learning_rates: Option<Vec<f64>>,
    /// Gradients of a larger Euclidean norm (over all parameters, after the reduction) are scaled down to this one.
    pub clip_norm: Option<f64>,
    /// The loss of a batch.
    pub reduction: Reduction,
    /// What ties the run to the model that it starts at: frozen parameters and a pull of others back to there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tie: Option<Tie>,
    /// Steps between two measurements of the watched examples, ≥ 1; before the first step and after the last one they
    /// are measured in any case.
    pub watch_every: u64,
    /// Steps between two checkpoints; does not change the result.
    #[serde(skip)]
    pub checkpoint_every: Option<u64>,
}

impl Default for Plan {
    /// One epoch of AdamW (β 0.9 and 0.999, ε 1e-8, no decay) at a constant 1e-3 in shuffled batches of 16.
    fn default() -> Self {
        Self {
            seed: 0,
            order: Order::Shuffled,
            excluded: Vec::new(),
            removal: Removal::Refill,
            length: Length::Epochs(1),
            batch_size: 16,
            last_batch: LastBatch::Keep,
            micro_batch_rows: 4096,
            optimizer: Optimizer::AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8 },
            weight_decay: 0.0,
            decay: Decay::Matrices,
            learning_rate: LearningRate::constant(1e-3),
            learning_rates: None,
            clip_norm: None,
            reduction: Reduction::TokenMean,
            tie: None,
            watch_every: 1,
            checkpoint_every: None,
        }
    }
}

impl Plan {
    /// Checks the range of every number.
    ///
    /// # Errors
    /// [`TrainError::Setting`] with the key as a configuration file has it.
    pub fn check(&self) -> Result<()> {
        let (length, n) = match self.length {
            Length::Epochs(n) => ("epochs", n),
            Length::Steps(n) => ("steps", n),
        };
        positive(length, n)?;
        positive("batch_size", self.batch_size as u64)?;
        positive("micro_batch_rows", self.micro_batch_rows as u64)?;
        positive("watch_every", self.watch_every)?;
        positive("checkpoint_every", self.checkpoint_every.unwrap_or(1))?;
        let rate = &self.learning_rate;
        number("lr", rate.peak, rate.peak > 0.0, "> 0")?;
        let given = self.learning_rates.iter().flatten();
        given.into_iter().try_for_each(|&rate| number("learning_rates", rate, rate >= 0.0, "≥ 0"))?;
        number("min_lr_ratio", rate.min_ratio, (0.0..=1.0).contains(&rate.min_ratio), "from 0 to 1")?;
        number("weight_decay", self.weight_decay, self.weight_decay >= 0.0, "≥ 0")?;
        let clip_norm = self.clip_norm.unwrap_or(1.0);
        number("clip_norm", clip_norm, clip_norm > 0.0, "> 0")?;
        match self.optimizer {
            Optimizer::AdamW { beta1, beta2, eps } => {
                number("betas", beta1, (0.0..1.0).contains(&beta1), "≥ 0 and < 1")?;
                number("betas", beta2, (0.0..1.0).contains(&beta2), "≥ 0 and < 1")?;
                number("eps", eps, eps > 0.0, "> 0")
            }
            Optimizer::Sgd { momentum } => number("momentum", momentum, (0.0..1.0).contains(&momentum), "≥ 0 and < 1"),
        }
    }
}

fn positive(key: &'static str, n: u64) -> Result<()> {
    if n > 0 { Ok(()) } else { Err(TrainError::setting(key, "must be at least 1, is 0")) }
}

fn number(key: &'static str, x: f64, ok: bool, range: &str) -> Result<()> {
    if ok && x.is_finite() { Ok(()) } else { Err(TrainError::setting(key, format!("must be {range}, is {x}"))) }
}

/// A curriculum is told by its hash: it may be as long as the run.
fn order_name<S: Serializer>(order: &Order, to: S) -> std::result::Result<S::Ok, S::Error> {
    match order {
        Order::Shuffled => to.serialize_str("shuffled"),
        Order::Sequential => to.serialize_str("sequential"),
        Order::Curriculum(batches) => {
            let mut hash = crate::checkpoint::Hash::default();
            for batch in batches {
                hash.add(batch.len() as u64);
                batch.iter().for_each(|index| hash.add(index.0));
            }
            to.serialize_str(&format!("curriculum of {} batches, {hash}", batches.len()))
        }
    }
}

/// They are told by their hash.
fn rates_name<S: Serializer>(rates: &Option<Vec<f64>>, to: S) -> std::result::Result<S::Ok, S::Error> {
    let mut hash = crate::checkpoint::Hash::default();
    rates.iter().flatten().for_each(|rate| hash.add(rate.to_bits()));
    to.serialize_str(&hash.to_string())
}

fn numbers<S: Serializer>(list: &[ExampleIndex], to: S) -> std::result::Result<S::Ok, S::Error> {
    to.collect_seq(list.iter().map(|index| index.0))
}
