//! The command line.

mod compare;
mod edits;
mod evaluate;
mod fit;
mod group;
mod pbrf;
mod score;
mod simulate;
mod stages;
mod train;
mod what_if;

use std::path::PathBuf;

use clap::builder::RangedU64ValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use etymon_store::Overwrite;
use etymon_tensor::Precision;

use crate::machine::Bytes;

pub use compare::CompareArgs;
pub use evaluate::*;
pub use fit::{FitArgs, FitMethod, LabelSource};
pub use group::GroupArgs;
pub use pbrf::{MinimiserArg, PbrfArgs};
pub use score::{CurvatureArg, MeasurementArg, PerToken, ScoreArgs};
pub use simulate::*;
pub use stages::{StageArgs, StageCurvature};
pub use train::{TrainArgs, Vary};
pub use what_if::{CurriculumArgs, SimulateRunArgs, WhatIfArgs};

/// Traces what a model does back to the data it was trained on.
#[derive(Debug, Parser)]
#[command(name = "etymon", version, max_term_width = 110, after_help = AFTER_HELP)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
}

const AFTER_HELP: &str = "\
Examples:
  etymon quickstart                                          the whole job on the shipped text, in minutes
  etymon fit   --model M --data train.jsonl --out F          curvature of a model on its training data
  etymon plan fit --model M --data train.jsonl --out F       memory, disk and time of a command before it runs
  etymon score --model M --factors F --data train.jsonl --queries q.jsonl --out S --per-token
  etymon top S -k 10                                         ranked training texts
  etymon report S -o report.html                             the page to read them in
  etymon compare S1 S2                                       score tables side by side
  etymon simulate fit --log RUNS --out SIM                    a simulator of the training itself
  etymon simulate what-if SIM --log RUNS --truncate 100 --out O    what if it had trained otherwise?
  etymon evaluate lds --config train.toml --queries q.jsonl --scores S --out E     is it true? by retraining";

/// 1 or more.
fn positive() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..)
}

/// Options of every command.
#[derive(Clone, Copy, Debug, Args)]
pub struct Global {
    /// Print the result as JSON on standard output, and nothing else
    #[arg(long, global = true)]
    pub json: bool,
    /// No progress bars and no messages but errors
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// More detail in messages: the tapped layers, why rows were skipped
    #[arg(short, long, global = true, conflicts_with = "quiet")]
    pub verbose: bool,
    /// Seed of all random streams: start and order of a training, labels drawn for the curvature [default: 0; for train
    /// that of the configuration]
    #[arg(long, global = true, value_name = "N")]
    pub seed: Option<u64>,
    /// Threads [default: all cores]
    #[arg(long, global = true, value_name = "N", value_parser = positive())]
    pub threads: Option<usize>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// The whole job on the shipped text: train, fit, score, report
    Quickstart(QuickstartArgs),
    /// Train a model from a TOML file; writes a Hugging Face folder, checkpoints and the training log
    Train(TrainArgs),
    /// Fit curvature factors (K-FAC or EK-FAC) of a model on its training data
    Fit(FitArgs),
    /// Score training examples on queries
    Score(Box<ScoreArgs>),
    /// Influence of groups of training examples, first and second order
    Group(Box<GroupArgs>),
    /// List the attribution methods: what each scores, what it needs, where it comes from
    Methods,
    /// Tell memory, disk, operations and time of `fit` or `score`, without running it
    Plan(PlanArgs),
    /// Print the ranked training texts of a score table
    Top(TopArgs),
    /// Write the report of a score table: one HTML file
    Report(ReportArgs),
    /// Show score tables side by side: correlation, overlap, and the top texts of each
    Compare(CompareArgs),
    /// Judge score tables by retraining: LDS, leave one out, query loss difference, recall, …
    Evaluate(Box<EvaluateArgs>),
    /// Simulate training runs: fit a simulator on the logs of runs, ask it what another curriculum would have done
    Simulate(Box<SimulateArgs>),
    /// Check a model, its data and factors: gradients, batch and padding invariance, conditioning
    Doctor(DoctorArgs),
}

/// `etymon evaluate`.
#[derive(Clone, Debug, Subcommand)]
pub enum Evaluate {
    /// Ground truth by optimisation: the proximal Bregman response of random training examples, against scores
    Pbrf(Box<PbrfArgs>),
}

/// The model and its tapped layers.
#[derive(Clone, Debug, Args)]
pub struct ModelArgs {
    /// Hugging Face folder (config.json, *.safetensors), MLP or ConvNet folder, .gguf file, or PEFT folder of LoRA adapters
    #[arg(long, value_name = "PATH")]
    pub model: PathBuf,
    /// Base model of the adapters [default: base_model_name_or_path, relative to their folder]
    #[arg(long, value_name = "PATH")]
    pub base: Option<PathBuf>,
    /// Add the adapters to the weights, and tap the layers of these instead of A and B of the adapters
    #[arg(long)]
    pub merged: bool,
    /// tokenizer.json [default: the model's]
    #[arg(long, value_name = "FILE")]
    pub tokenizer: Option<PathBuf>,
    /// Regular expression on layer names [default: every linear layer of attention and MLP, not the vocabulary head]
    #[arg(long, value_name = "PATTERN")]
    pub layers: Option<String>,
}

/// How rows are read.
#[derive(Clone, Debug, Args)]
pub struct DataArgs {
    /// Training data: files or folders of jsonl, csv, parquet, text or idx (.gz and .zst too)
    #[arg(long, required = true, num_args = 1.., value_name = "PATH")]
    pub data: Vec<PathBuf>,
    #[command(flatten)]
    pub rows: RowArgs,
    /// Use only the first N examples
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub max_rows: Option<u64>,
    /// Join texts into sequences of --max-tokens tokens
    #[arg(long)]
    pub pack: bool,
}

/// How a row becomes an example.
#[derive(Clone, Debug, Args)]
pub struct RowArgs {
    /// Format of the data files [default: by their names]
    #[arg(long, value_name = "jsonl|csv|text|parquet|idx")]
    pub format: Option<String>,
    /// Label column of feature rows [default: label or target; in csv the last numeric column]
    #[arg(long, value_name = "NAME")]
    pub label: Option<String>,
    /// Longest sequence; longer training texts are cut [default: the model's context]
    #[arg(long, value_name = "N")]
    pub max_tokens: Option<usize>,
    /// What to do with a bad row
    #[arg(long, value_enum, default_value_t = OnBadRow::Fail)]
    pub on_bad_row: OnBadRow,
}

/// What to do with a bad row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OnBadRow {
    /// Stop with an error that names file and line.
    Fail,
    /// Leave it out and count it.
    Skip,
}

/// How a pass is computed.
#[derive(Clone, Copy, Debug, Args)]
pub struct PassArgs {
    /// Tokens (or feature rows) per forward pass; results do not depend on it [default: 1024, or fewer when memory is short]
    #[arg(long, value_name = "N", value_parser = positive())]
    pub batch_rows: Option<usize>,
    /// Most memory to use, such as 8GiB or 500MB. What would need more runs in several passes, each over a group of layers, and
    /// then in smaller batches; what still would is refused before any work [default: 80 % of what is free]
    #[arg(long, value_name = "SIZE")]
    pub memory_limit: Option<Bytes>,
    /// Numbers in which operands enter products. auto: bf16x3 (sums of two bf16, nearly f32) where the processor has AMX,
    /// else f32. bf16: fastest; relative errors around 1e-3
    #[arg(long, value_enum, default_value_t = Dtype::Auto)]
    pub dtype: Dtype,
}

/// Precision of products.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Dtype {
    /// The fastest that is nearly f32 on this machine.
    Auto,
    /// f32.
    F32,
    /// Sums of two bf16.
    #[value(name = "bf16x3")]
    Bf16x3,
    /// bf16.
    #[value(name = "bf16")]
    Bf16,
}

impl Dtype {
    /// What it means on this machine.
    pub fn precision(self) -> Precision {
        match self {
            Self::Auto => Precision::best(),
            Self::F32 => Precision::F32,
            Self::Bf16x3 => Precision::Bf16x3,
            Self::Bf16 => Precision::Bf16,
        }
    }
}

/// Output folder.
#[derive(Clone, Debug, Args)]
pub struct OutArgs {
    /// Output folder; an interrupted run with the same settings is resumed
    #[arg(long, value_name = "FOLDER")]
    pub out: PathBuf,
    /// Replace what is there when it was made with other settings
    #[arg(long)]
    pub overwrite: bool,
}

impl OutArgs {
    /// What to do with a run of other settings that is there.
    pub fn overwrite(&self) -> Overwrite {
        overwrite(self.overwrite)
    }
}

/// What `--overwrite` says.
fn overwrite(given: bool) -> Overwrite {
    if given { Overwrite::Replace } else { Overwrite::Refuse }
}

/// `etymon quickstart`.
#[derive(Clone, Debug, Args)]
pub struct QuickstartArgs {
    /// Output folder
    #[arg(long, value_name = "FOLDER", default_value = "etymon-quickstart")]
    pub out: PathBuf,
    /// Then score three of the queries with every method, and write the page that shows their strongest texts side by side
    #[arg(long)]
    pub compare: bool,
    /// Start over, whatever is there
    #[arg(long)]
    pub overwrite: bool,
}

/// `etymon plan`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  etymon plan fit --model M --data train.jsonl --out F
  etymon plan score --model M --factors F --data train.jsonl --queries q.jsonl --out S --rank 32 --memory-limit 8GiB
Nothing is written; times come from one batch and a few products on this machine.")]
pub struct PlanArgs {
    /// The command.
    #[command(subcommand)]
    pub command: Planned,
}

/// Commands that can be planned.
#[derive(Clone, Debug, Subcommand)]
pub enum Planned {
    /// The arguments of `etymon fit`
    Fit(Box<FitArgs>),
    /// The arguments of `etymon score`
    Score(Box<ScoreArgs>),
}

/// `etymon top`.
#[derive(Clone, Debug, Args)]
pub struct TopArgs {
    /// Folder of `etymon score`
    pub scores: PathBuf,
    /// Only this query (repeatable)
    #[arg(long, value_name = "ID")]
    pub query: Vec<String>,
    /// How many proponents and opponents
    #[arg(short, default_value_t = 20)]
    pub k: usize,
}

/// `etymon report`.
#[derive(Clone, Debug, Args)]
pub struct ReportArgs {
    /// Folder of `etymon score`
    pub scores: PathBuf,
    /// The HTML file
    #[arg(short, long, default_value = "report.html")]
    pub output: PathBuf,
    /// Heading of the page
    #[arg(long, default_value = "etymon")]
    pub title: String,
}

/// `etymon doctor`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Exit status: 0 all checks passed, 1 a check failed, 2 the checks could not be run.")]
pub struct DoctorArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Training data to check the model on
    #[arg(long, num_args = 1.., value_name = "PATH")]
    pub data: Vec<PathBuf>,
    #[command(flatten)]
    pub rows: RowArgs,
    /// Folder of `etymon fit` to check the conditioning of
    #[arg(long, value_name = "FOLDER")]
    pub factors: Option<PathBuf>,
    /// Let the model continue this text
    #[arg(long, value_name = "TEXT")]
    pub prompt: Option<String>,
    /// Tokens of each example in the gradient check
    #[arg(long, default_value_t = 24)]
    pub check_tokens: usize,
}
