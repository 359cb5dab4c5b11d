//! Is it true? Ground truth by real retraining, and the figures that judge attribution methods by it (methods.md §6).
//!
//! A [`World`] is a training run without some of the examples, with a seed. [`Retraining`] trains many of them at once and
//! records what each [`Probe`] sees in the trained model; a world that was trained before, with the same data, plan and
//! probes, is read instead; a [`Finetuning`] may follow in every world. A [`Method`] is a score table. [`lds`], [`agreement`], [`recall`] and [`auc`] compare the two;
//! [`Interval`]s are bootstrapped over queries. [`pbrf`] is ground truth by optimisation instead.

mod digest;
mod draws;
mod error;
mod lds;
mod method;
mod patch;
pub mod pbrf;
mod planted;
pub mod plot;
mod removal;
mod retrain;
pub mod statistics;
mod truth;
mod world;

pub use draws::{Stream, draw, flips, shuffled};
pub use error::{EvaluateError, Result};
pub use lds::{Lds, lds, reliability};
pub use method::{Method, MethodFolder, find_methods};
pub use patch::{Patch, tail_patch};
pub use planted::{Recall, names_in, recall};
pub use removal::{Agreement, agreement, top};
pub use retrain::{Progress, Retraining, Trained};
pub use statistics::{Interval, auc};
pub use truth::Truth;
pub use world::{Finetuning, Observed, Probe, Start, World};
