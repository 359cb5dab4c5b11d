//! `etymon simulate`: simulators of training runs.

mod evaluate;
mod figures;
mod fit;
mod runs;

use super::{CommandResult, Context};
use crate::args::{SimulateArgs, SimulateCommand};

pub fn run(args: &SimulateArgs, context: Context) -> CommandResult {
    match &args.command {
        SimulateCommand::Fit(args) => fit::run(args, context),
        SimulateCommand::Evaluate(args) => evaluate::run(args, context),
    }
}
