//! Simfluence (Guu et al. 2023, 2303.08114): from the logs of some training runs, a simulator of the loss of every watched
//! example, which answers what another curriculum would have done. methods.md §4.
//!
//! [`Recorded`] reads logs of runs, each with its [`Curriculum`] and the losses measured on the way. A [`Simulator`] is fitted
//! on them; [`Simulator::roll_out`] predicts every loss at every step of any curriculum from the first losses alone.
//! [`Edit`]s make one curriculum from another: what if?
//! "Query" is a watched example: what was measured.

mod curriculum;
mod curriculum_file;
mod edit;
mod error;
mod fit;
mod judge;
mod kind;
mod log;
mod recorded;
mod roll_out;
mod simulator;
mod what_if;

pub use curriculum::Curriculum;
pub use edit::{Bound, Edit, Examples, Expression, Literal};
pub use error::{Result, SimulateError};
pub use fit::{Chosen, FitOptions, Fitted, Phase, Progress, Solver, Tried, fit, fit_scores};
pub use judge::{Judged, judge};
pub use kind::{Kind, Unseen};
pub use log::find_logs;
pub use recorded::{Recorded, Run};
pub use roll_out::{QUARTERS, RollOut};
pub use simulator::Simulator;
pub use what_if::Change;
