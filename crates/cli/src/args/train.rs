//! Arguments of `etymon train`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use etymon_store::Overwrite;

use crate::machine::Bytes;

/// `etymon train`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  etymon train --example > train.toml
  etymon train train.toml
  etymon train train.toml --runs 32 --vary order,subset --out runs     recorded for `etymon simulate`
With --runs the folder gets run-0000, run-0001, …, each with its log. Runs train side by side, one per thread, and start at the
same model. Called again, finished runs are skipped, an interrupted one goes on from its last checkpoint (checkpoint_every) or
starts anew, and a larger --runs adds to the set.")]
pub struct TrainArgs {
    /// The configuration; `etymon train --example` prints one
    #[arg(value_name = "CONFIG.toml", required_unless_present = "example")]
    pub config: Option<PathBuf>,
    /// Print a commented configuration and exit
    #[arg(long)]
    pub example: bool,
    /// Output folder [default: `out` of the configuration]
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
    /// Start over, whatever is there
    #[arg(long)]
    pub overwrite: bool,
    /// Record R runs that differ in their curricula; the configuration must name examples to `watch`
    #[arg(long, value_name = "R", value_parser = clap::value_parser!(u64).range(1..=9999))]
    pub runs: Option<u64>,
    /// In what the runs differ. order: run k has the order of seed + k. subset: each run trains on a random part of the
    /// examples alone
    #[arg(long, value_enum, value_delimiter = ',', default_value = "order", requires = "runs")]
    pub vary: Vec<Vary>,
    /// Part of the training set in a run, between 0 and 1, with --vary subset [default: 0.5]
    #[arg(long, value_name = "X", requires = "runs")]
    pub subset_fraction: Option<f64>,
    /// Keep the final model of each run, not the log alone
    #[arg(long, requires = "runs")]
    pub keep_models: bool,
    /// Most memory to use, such as 8GiB: fewer runs at once [default: 80 % of what is free]
    #[arg(long, value_name = "SIZE", requires = "runs")]
    pub memory_limit: Option<Bytes>,
}

impl TrainArgs {
    /// What to do with a run of other settings that is there.
    pub fn overwrite(&self) -> Overwrite {
        super::overwrite(self.overwrite)
    }
}

/// In what runs differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Vary {
    /// The order of the examples.
    Order,
    /// The examples.
    Subset,
}
