//! The `etymon` binary: arguments → checked plan → thin commands.

mod args;
mod choice;
mod commands;
mod error;
mod estimate;
mod machine;
mod method;
mod open;
mod progress;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};
use commands::{Context, Outcome};
use error::Result;

fn main() -> ExitCode {
    etymon_tensor::give_back_large_blocks();
    let cli = Cli::parse();
    let context = Context { global: cli.global, reporter: progress::Reporter::new(&cli.global) };
    match run(&cli, context) {
        Ok(Outcome::Done(value)) => finish(context, &value, ExitCode::SUCCESS),
        Ok(Outcome::Found(value)) => finish(context, &value, ExitCode::from(1)),
        Err(error) => {
            report_error(&error);
            ExitCode::from(2)
        }
    }
}

fn run(cli: &Cli, context: Context) -> Result<Outcome> {
    // This thread is one of the pool: a product then starts here, and need not wake another thread first.
    let pool = rayon::ThreadPoolBuilder::new().use_current_thread();
    pool.num_threads(cli.global.threads.unwrap_or(0)).build_global()?;
    match &cli.command {
        Command::Quickstart(args) => commands::quickstart::run(args, context),
        Command::Train(args) => commands::train::run(args, context),
        Command::Fit(args) => commands::fit::run(args, context),
        Command::Score(args) => commands::score::run(args, context),
        Command::Group(args) => commands::score::group::run(args, context),
        Command::Methods => commands::methods::run(context),
        Command::Plan(args) => commands::plan::run(args, context),
        Command::Top(args) => commands::top::run(args, context),
        Command::Report(args) => commands::report::run(args, context),
        Command::Compare(args) => commands::compare::run(args, context),
        Command::Evaluate(args) => commands::evaluate::run(args, context),
        Command::Simulate(args) => commands::simulate::run(args, context),
        Command::Doctor(args) => commands::doctor::run(args, context),
    }
}

fn finish(context: Context, value: &serde_json::Value, code: ExitCode) -> ExitCode {
    if context.global.json {
        commands::print(&value.to_string());
    }
    code
}

#[allow(clippy::print_stderr)]
fn report_error(error: &error::CliError) {
    eprintln!("error: {error}");
    if let Some(help) = error.help() {
        eprintln!("help: {help}");
    }
}
