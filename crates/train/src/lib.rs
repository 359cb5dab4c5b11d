//! Training: pre-training, fine-tuning, and re-training on subsets and designed orders.
//!
//! A [`TrainConfig`] is a TOML file; checked, it is a [`Job`]: what to read, where to write, and the [`Plan`] of the
//! run. [`train`] does a whole job in a run folder. A [`Trainer`] does a plan on a model and examples in memory, which
//! is what re-training without some examples, or in another order, needs. [`Runs`] records many runs of one job.
//!
//! A run depends on its plan and its examples alone: not on the number of threads, nor on where it was interrupted and
//! resumed (to the bit), and on the size of micro-batches only by rounding. The train set is held in memory as token
//! ids or features: a set for fine-tuning or for pre-training of a small model fits.

mod batching;
mod checkpoint;
mod command;
mod config;
mod error;
mod evaluate;
mod finetune;
mod job;
mod load;
mod observer;
mod optimizer;
mod output;
mod plan;
mod runs;
mod schedule;
mod trainer;
mod workers;

pub use checkpoint::{State, checkpoints, latest_checkpoint};
pub use command::{Outcome, train};
pub use config::{LoraConfig, OptimizerName, OrderName, TrainConfig};
pub use error::{Result, TrainError};
pub use evaluate::{evaluate, losses};
pub use finetune::{FinetuneConfig, Link, Tie};
pub use job::{Job, ModelSource, TokenizerSource};
pub use load::Loaded;
pub use observer::{Observer, Progress};
pub use output::Output;
pub use plan::{Decay, LastBatch, Length, Optimizer, Order, Plan, Reduction, Removal};
pub use runs::{Event, Runs, Variations, run_name};
pub use schedule::{LearningRate, Schedule};
pub use trainer::{End, Trainer, without_texts};
pub use workers::{Workers, run_bytes};
