//! `etymon simulate`: simulators of training runs.

mod answer;
mod columns;
mod evaluate;
mod figures;
mod fit;
mod question;
mod runs;
mod scores;
mod verify;
mod what_if;

use super::{CommandResult, Context};
use crate::args::{SimulateArgs, SimulateCommand};

pub fn run(args: &SimulateArgs, context: Context) -> CommandResult {
    match &args.command {
        SimulateCommand::Fit(args) => fit::run(args, context),
        SimulateCommand::Evaluate(args) => evaluate::run(args, context),
        SimulateCommand::Run(args) => what_if::run(args, context),
        SimulateCommand::WhatIf(args) => what_if::what_if(args, context),
    }
}
