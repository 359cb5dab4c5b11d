//! Arguments of `etymon simulate run` and `etymon simulate what-if`.

use std::path::PathBuf;

use clap::Args;

use super::OutArgs;
use super::edits::EditArgs;

/// `etymon simulate run`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  etymon simulate run SIM --log RUNS --from run-0003 --out O            as it was recorded
  etymon simulate run SIM --log RUNS --shuffle 7 --out O
  etymon simulate run SIM --curriculum mine.jsonl --out O
A line of a curriculum file is a step: {\"step\": 0, \"train_ids\": [\"a\", \"b\"], \"learning_rate\": 0.001}. The curriculum that was
simulated is left in O/curriculum.jsonl, with the losses in O/trajectories.jsonl and a page in O/simulation.html.")]
pub struct SimulateRunArgs {
    #[command(flatten)]
    pub curriculum: CurriculumArgs,
}

/// `etymon simulate what-if`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  etymon simulate what-if SIM --log RUNS --data train.jsonl --remove 'source = \"web\"' --out O
  etymon simulate what-if SIM --log RUNS --first 'id in (\"a\", \"b\")' --truncate 100 --out O
  etymon simulate what-if SIM --log RUNS --repeat 'id = \"a\"' 10 --verify train.toml --out O
  etymon simulate what-if SIM --log RUNS --curriculum mine.jsonl --out O
Expressions compare the id and, with --data, the other columns of training examples: =, !=, <, <=, >, >=, in (…), not in (…),
joined by and, or, not and parentheses; texts are in quotes.
Losses are those of each watched example, a sum over its predicted positions in nats; negative changes are improvements.
--verify trains the edited curriculum with the same learning rates and says how far off the simulation is. Where a batch
shrinks, training takes the mean over fewer examples, as `reduction` of the configuration has it; the simulator adds up effects.")]
pub struct WhatIfArgs {
    #[command(flatten)]
    pub curriculum: CurriculumArgs,
    /// Really train the edited curriculum by this configuration, that of the recorded runs; its `out` is not touched
    #[arg(long, value_name = "TRAIN.toml")]
    pub verify: Option<PathBuf>,
}

/// A curriculum, edited, and what is known of its examples.
#[derive(Clone, Debug, Args)]
pub struct CurriculumArgs {
    /// Folder of `etymon simulate fit`
    #[arg(value_name = "SIM")]
    pub simulator: PathBuf,
    /// Log of the run that is simulated, or the folder of recorded runs
    #[arg(long, num_args = 1.., value_name = "FOLDER", required_unless_present = "curriculum")]
    pub log: Vec<PathBuf>,
    /// Which of the recorded runs [default: the first]
    #[arg(long, value_name = "RUN", requires = "log")]
    pub from: Option<String>,
    /// A whole curriculum, in place of the recorded one; edits come on top
    #[arg(long, value_name = "FILE.jsonl")]
    pub curriculum: Option<PathBuf>,
    /// Training data, for expressions on columns other than the id
    #[arg(long, num_args = 1.., value_name = "PATH")]
    pub data: Vec<PathBuf>,
    /// Watched examples, for their texts in the result
    #[arg(long, num_args = 1.., value_name = "PATH")]
    pub watched: Vec<PathBuf>,
    /// Format of the data files [default: by their names]
    #[arg(long, value_name = "jsonl|csv|text|parquet")]
    pub format: Option<String>,
    /// Label column of feature rows [default: label or target; in csv the last numeric column]
    #[arg(long, value_name = "NAME")]
    pub label: Option<String>,
    #[command(flatten)]
    pub edits: EditArgs,
    #[command(flatten)]
    pub out: OutArgs,
    /// How many watched examples the terminal lists
    #[arg(short, default_value_t = 20)]
    pub k: usize,
}
