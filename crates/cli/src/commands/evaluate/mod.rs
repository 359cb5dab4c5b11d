//! `etymon evaluate`: figures that judge score tables.

mod brittleness;
mod ground;
mod lds;
mod mislabel;
mod qld;
mod recall;
mod removal;
mod tail_patch;
pub(super) mod verdict;

use super::{CommandResult, Context};
use crate::args::{EvaluateArgs, EvaluateCommand};

pub fn run(args: &EvaluateArgs, context: Context) -> CommandResult {
    match &args.command {
        EvaluateCommand::Lds(args) => lds::run(args, context),
        EvaluateCommand::Loo(args) => removal::leave_one_out(args, context),
        EvaluateCommand::LeaveKOut(args) => removal::leave_k_out(args, context),
        EvaluateCommand::Qld(args) => qld::run(args, context),
        EvaluateCommand::Brittleness(args) => brittleness::run(args, context),
        EvaluateCommand::TailPatch(args) => tail_patch::run(args, context),
        EvaluateCommand::Mislabel(args) => mislabel::run(args, context),
        EvaluateCommand::Recall(args) => recall::run(args, context),
        EvaluateCommand::Pbrf(args) => super::pbrf::run(args, context),
    }
}
