//! Arguments of `etymon evaluate`.

use std::path::PathBuf;

use clap::builder::RangedU64ValueParser;
use clap::{Args, Subcommand, ValueEnum};

use super::{MeasurementArg, OutArgs, positive};
use crate::machine::Bytes;

/// `etymon evaluate`.
#[derive(Clone, Debug, Args)]
pub struct EvaluateArgs {
    /// The figure.
    #[command(subcommand)]
    pub command: EvaluateCommand,
}

/// The figures.
#[derive(Clone, Debug, Subcommand)]
pub enum EvaluateCommand {
    /// Linear datamodeling score: do the scores of a random half of the training set add up to what a model trained on it
    /// does?
    Lds(LdsArgs),
    /// Leave one out: retrain without single rows, predicted against actual change
    Loo(LooArgs),
    /// Leave k out: retrain without groups of rows, predicted against actual change
    LeaveKOut(LeaveKOutArgs),
    /// Query loss difference: retrain without the strongest proponents of each query, against random rows
    Qld(QldArgs),
    /// Retrain without more and more proponents: how f falls and how often a prediction flips
    Brittleness(BrittlenessArgs),
    /// One small step on the strongest proponents, against random rows; nothing is retrained
    TailPatch(TailPatchArgs),
    /// Give some rows wrong labels, train, and find them by self-influence
    Mislabel(MislabelArgs),
    /// Do rankings find the rows that are known to matter? Nothing is retrained
    Recall(RecallArgs),
    /// Proximal Bregman response: optimise with one example more or less, predicted against actual change; nothing is
    /// retrained
    Pbrf(super::PbrfArgs),
}

/// What is retrained, and what is judged.
#[derive(Clone, Debug, Args)]
pub struct TruthArgs {
    /// Training configuration, as of `etymon train`; its `out` is not touched
    #[arg(
        long,
        value_name = "TRAIN.toml",
        required = false,
        required_unless_present = "stages",
        default_value_if("stages", clap::builder::ArgPredicate::IsPresent, "PRETRAIN")
    )]
    pub config: PathBuf,
    /// Instead of --config, the configurations of two stages: rows of the first are removed, both are trained, and queries are of
    /// the second
    #[arg(
        long,
        value_name = "PRETRAIN.toml,FINETUNE.toml",
        value_delimiter = ',',
        num_args = 1,
        conflicts_with = "config"
    )]
    pub stages: Vec<PathBuf>,
    /// Queries, as of `etymon score`
    #[arg(long, required = true, num_args = 1.., value_name = "PATH")]
    pub queries: Vec<PathBuf>,
    /// Score tables to judge, or folders of them; also of other tools: scores-*.parquet with train_id and a float column
    /// per query
    #[arg(long, required = true, num_args = 1.., value_name = "FOLDER")]
    pub scores: Vec<PathBuf>,
    /// Use only the first N queries
    #[arg(long, value_name = "N", value_parser = positive())]
    pub max_queries: Option<usize>,
    /// The scalar that is measured
    #[arg(long, value_enum, default_value_t = MeasurementArg::LogLikelihood)]
    pub measurement: MeasurementArg,
    #[command(flatten)]
    pub retrain: RetrainArgs,
}

/// How it is retrained.
#[derive(Clone, Debug, Args)]
pub struct RetrainArgs {
    /// Retrainings per set of rows, with the seed of the configuration, the next one, …; f is their mean
    #[arg(long, visible_alias = "seeds-per-subset", value_name = "K", default_value_t = 1, value_parser = positive())]
    pub seeds: usize,
    /// What fills the place of removed rows: the rows that follow (refill) or nothing (shrink) [default: that of the
    /// configuration]
    #[arg(long, value_enum)]
    pub removal: Option<RemovalArg>,
    /// Folder of retrained results; evaluations of the same configuration and queries share what they have in common
    /// [default: worlds in --out]
    #[arg(long, value_name = "FOLDER")]
    pub worlds: Option<PathBuf>,
    /// Most memory to use, such as 8GiB: fewer retrainings at once [default: 80 % of what is free]
    #[arg(long, value_name = "SIZE")]
    pub memory_limit: Option<Bytes>,
}

/// What fills the place of removed rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RemovalArg {
    /// The rows that follow.
    Refill,
    /// Nothing.
    Shrink,
}

/// `etymon evaluate lds`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  etymon evaluate lds --config train.toml --queries q.csv --scores S --subsets 100 --out E
  etymon evaluate lds --config train.toml --queries q.csv --scores scores/ --subsets 200 --seeds-per-subset 5 --out E
  etymon evaluate lds --truth E/truth.jsonl --scores scores/ --out E2
  etymon evaluate lds --truth losses.csv --members subsets.csv --scores scores/ --out E2
A line of a truth file in jsonl is {\"kept\": [train ids of the subset], \"f\": {query id: measurement}}; larger f = more of it.
With --members it is a table with columns subset, query and value (larger = more of it) or loss.
--seed draws the subsets and the resamples of the intervals; the training seeds are the configuration's.")]
pub struct LdsArgs {
    /// Training configuration, as of `etymon train`; its `out` is not touched
    #[arg(long, value_name = "TRAIN.toml", required_unless_present = "truth", requires = "queries")]
    pub config: Option<PathBuf>,
    /// Queries, as of `etymon score`
    #[arg(long, num_args = 1.., value_name = "PATH")]
    pub queries: Vec<PathBuf>,
    /// Score tables to judge, or folders of them
    #[arg(long, required = true, num_args = 1.., value_name = "FOLDER")]
    pub scores: Vec<PathBuf>,
    /// Measurements of models that were retrained elsewhere, instead of retraining: jsonl, or with --members a table (csv,
    /// parquet, jsonl) with columns subset, query and value or loss
    #[arg(long, value_name = "FILE", conflicts_with_all = ["config", "queries"])]
    pub truth: Option<PathBuf>,
    /// The training examples of each subset of --truth: a table (csv, parquet, jsonl) with columns subset and train_id
    #[arg(long, value_name = "FILE", requires = "truth")]
    pub members: Option<PathBuf>,
    /// M: random subsets
    #[arg(long, value_name = "M", default_value_t = 100, value_parser = RangedU64ValueParser::<usize>::new().range(2..))]
    pub subsets: usize,
    /// Part of the training set in a subset, between 0 and 1
    #[arg(long, default_value_t = 0.5)]
    pub alpha: f64,
    /// Use only the first N queries
    #[arg(long, value_name = "N", value_parser = positive())]
    pub max_queries: Option<usize>,
    /// The scalar that is measured
    #[arg(long, value_enum, default_value_t = MeasurementArg::LogLikelihood)]
    pub measurement: MeasurementArg,
    #[command(flatten)]
    pub retrain: RetrainArgs,
    #[command(flatten)]
    pub out: OutArgs,
}

/// `etymon evaluate loo`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Example:
  etymon evaluate loo --config train.toml --queries q.csv --scores S --rows 50 --seeds 5 --removal shrink --out E
The predicted change of f is -I(q, m)/N. The change by one row is small against the noise of training: several seeds and
--removal shrink, which leaves all other rows in their batches, make it visible.")]
pub struct LooArgs {
    #[command(flatten)]
    pub truth: TruthArgs,
    /// Random rows, each removed alone
    #[arg(long, value_name = "K", default_value_t = 50, value_parser = positive())]
    pub rows: usize,
    #[command(flatten)]
    pub out: OutArgs,
}

/// `etymon evaluate leave-k-out`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  etymon evaluate leave-k-out --config train.toml --queries q.csv --scores S --groups 50 --size 20 --out E
  etymon evaluate leave-k-out --config train.toml --queries q.jsonl --scores S --by source --out E
  etymon evaluate leave-k-out --stages pretrain.toml,finetune.toml --queries q.csv --scores S/pretraining --out E
The predicted change of f is -sum I(q, m)/N over the group. Groups whose removal helps, predicted against actual, come first in
the list of groups: with --stages, these are the ones that harm transfer.")]
pub struct LeaveKOutArgs {
    #[command(flatten)]
    pub truth: TruthArgs,
    /// Random groups
    #[arg(long, value_name = "G", default_value_t = 50, value_parser = positive())]
    pub groups: usize,
    /// Rows of a random group
    #[arg(long, value_name = "K", default_value_t = 20, value_parser = positive())]
    pub size: usize,
    /// One group per value of this column of the training data, instead of random ones
    #[arg(long, value_name = "COLUMN", conflicts_with_all = ["groups", "size"])]
    pub by: Option<String>,
    #[command(flatten)]
    pub out: OutArgs,
}

/// `etymon evaluate qld`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Example:
  etymon evaluate qld --config train.toml --queries q.csv --max-queries 20 --scores S --out E
For each query and method one set of rows is removed, and a few random ones; 20 queries and 3 methods are 65 retrainings.")]
pub struct QldArgs {
    #[command(flatten)]
    pub truth: TruthArgs,
    /// Part of the training set that is removed
    #[arg(long, default_value_t = 0.01)]
    pub fraction: f64,
    /// Random removals to compare with
    #[arg(long, value_name = "R", default_value_t = 5, value_parser = positive())]
    pub controls: usize,
    #[command(flatten)]
    pub out: OutArgs,
}

/// `etymon evaluate brittleness`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Example:
  etymon evaluate brittleness --config train.toml --queries q.csv --max-queries 20 --scores S --remove 10,50,200 --out E
Flips are counted for classifiers of features: the class with the largest output against that of the full training set.")]
pub struct BrittlenessArgs {
    #[command(flatten)]
    pub truth: TruthArgs,
    /// How many proponents are removed
    #[arg(long, value_name = "K,K,…", value_delimiter = ',', default_values_t = [10usize, 50, 200], value_parser = positive())]
    pub remove: Vec<usize>,
    #[command(flatten)]
    pub out: OutArgs,
}

/// `etymon evaluate tail-patch`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Example:
  etymon evaluate tail-patch --config train.toml --queries q.jsonl --scores S -k 10 --out E
A step of plain gradient descent on the mean loss of the top k, from the trained model; f after minus f before.")]
pub struct TailPatchArgs {
    #[command(flatten)]
    pub truth: TruthArgs,
    /// Trained model [default: that of the configuration]
    #[arg(long, value_name = "PATH")]
    pub model: Option<PathBuf>,
    /// Rows of the step
    #[arg(short, default_value_t = 10, value_parser = positive())]
    pub k: usize,
    /// Learning rate of the step
    #[arg(long, default_value_t = 1e-3)]
    pub lr: f64,
    /// Random sets of rows to compare with
    #[arg(long, value_name = "R", default_value_t = 5, value_parser = positive())]
    pub controls: usize,
    #[command(flatten)]
    pub out: OutArgs,
}

/// `etymon evaluate mislabel`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Example:
  etymon evaluate mislabel --config train.toml --fraction 0.1 --out E
Writes the corrupted data, trains on them, fits EK-FAC and K-FAC, and scores every row on itself; the loss of each row is
the baseline. AUC: the chance that a wrong label has a larger score than a right one.")]
pub struct MislabelArgs {
    /// Training configuration of a classifier of features
    #[arg(long, value_name = "TRAIN.toml")]
    pub config: PathBuf,
    /// Part of the rows that get another class
    #[arg(long, default_value_t = 0.1)]
    pub fraction: f64,
    #[command(flatten)]
    pub out: OutArgs,
}

/// `etymon evaluate recall`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  etymon evaluate recall --data train.jsonl --queries q.jsonl --scores S --expect fact --match fact --out E
  etymon evaluate recall --data train.jsonl --queries q.jsonl --scores S --expect answer_ids --out E
Queries without the column --expect are left out.")]
pub struct RecallArgs {
    /// Training data
    #[arg(long, required = true, num_args = 1.., value_name = "PATH")]
    pub data: Vec<PathBuf>,
    /// Queries
    #[arg(long, required = true, num_args = 1.., value_name = "PATH")]
    pub queries: Vec<PathBuf>,
    /// Score tables to judge, or folders of them
    #[arg(long, required = true, num_args = 1.., value_name = "FOLDER")]
    pub scores: Vec<PathBuf>,
    /// Column of the queries that says what must be found: a value or a list
    #[arg(long, value_name = "COLUMN")]
    pub expect: String,
    /// Column of the training data that has these values [default: their ids]
    #[arg(long = "match", value_name = "COLUMN")]
    pub matched: Option<String>,
    /// Cut-offs of the ranking
    #[arg(short, value_name = "K,K,…", value_delimiter = ',', default_values_t = [1usize, 5, 10, 100], value_parser = positive())]
    pub k: Vec<usize>,
    #[command(flatten)]
    pub out: OutArgs,
}
