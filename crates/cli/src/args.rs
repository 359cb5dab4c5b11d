//! The command line.

use std::path::PathBuf;

use clap::builder::RangedU64ValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use etymon_curvature::Damping;
use etymon_tensor::Precision;

use crate::machine::Bytes;

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
  etymon report S -o report.html                             the page to read them in";

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
    Score(ScoreArgs),
    /// Tell memory, disk, operations and time of `fit` or `score`, without running it
    Plan(PlanArgs),
    /// Print the ranked training texts of a score table
    Top(TopArgs),
    /// Write the report of a score table: one HTML file
    Report(ReportArgs),
    /// Check a model, its data and factors: gradients, batch and padding invariance, conditioning
    Doctor(DoctorArgs),
}

/// The model and its tapped layers.
#[derive(Clone, Debug, Args)]
pub struct ModelArgs {
    /// Hugging Face folder (config.json, *.safetensors), MLP folder, or .gguf file
    #[arg(long, value_name = "PATH")]
    pub model: PathBuf,
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
    /// Training data: files or folders of jsonl, csv, parquet or text (.gz and .zst too)
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
    #[arg(long, value_name = "jsonl|csv|text|parquet")]
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

/// `etymon quickstart`.
#[derive(Clone, Debug, Args)]
pub struct QuickstartArgs {
    /// Output folder
    #[arg(long, value_name = "FOLDER", default_value = "etymon-quickstart")]
    pub out: PathBuf,
    /// Start over, whatever is there
    #[arg(long)]
    pub overwrite: bool,
}

/// `etymon train`.
#[derive(Clone, Debug, Args)]
pub struct TrainArgs {
    /// The configuration; `etymon train --example` prints one
    #[arg(value_name = "CONFIG.toml", required_unless_present = "example")]
    pub config: Option<PathBuf>,
    /// Print a commented configuration and exit
    #[arg(long)]
    pub example: bool,
    /// Start over, whatever is there
    #[arg(long)]
    pub overwrite: bool,
}

/// `etymon fit`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example:\n  etymon fit --model my-model --data corpus/ --out factors --max-rows 20000")]
pub struct FitArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub data: DataArgs,
    #[command(flatten)]
    pub out: OutArgs,
    /// ekfac: with eigenvalue correction; kfac: without
    #[arg(long, value_enum, default_value_t = FitMethod::Ekfac)]
    pub method: FitMethod,
    /// Labels of the pseudo-gradients: drawn from the model (true Fisher) or the data's (empirical Fisher)
    #[arg(long, value_enum, default_value_t = LabelSource::Model)]
    pub labels: LabelSource,
    #[command(flatten)]
    pub pass: PassArgs,
}

/// Curvature methods that `fit` makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FitMethod {
    /// With eigenvalue correction.
    Ekfac,
    /// Without.
    Kfac,
}

/// Where the labels of pseudo-gradients come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LabelSource {
    /// Drawn from the model.
    Model,
    /// The data's.
    Data,
}

/// `etymon score`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  etymon score --model M --factors F --data train.jsonl --queries q.jsonl --out S --per-layer --per-token
  etymon score --model M --factors F --data corpus/ --queries q.jsonl --out S --rank 32 --filter tfidf:10000
  etymon score --model M --method grad-dot --data train.csv --queries test.csv --out S
  etymon score --model M --factors F --method ekfac-cg --data train.jsonl --queries q.jsonl --out S --solve-rows 2000
Scores are I(q, m) = -grad f . (G + damping)^-1 . grad L: positive = proponent; I/N is the effect of one more copy.")]
pub struct ScoreArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Folder of `etymon fit`: for ekfac, kfac, ekfac-cg and astra; other methods but grad-dot take the damping from it
    #[arg(long, value_name = "FOLDER")]
    pub factors: Option<PathBuf>,
    #[command(flatten)]
    pub data: DataArgs,
    /// Queries: rows with prompt and completion, input_ids and completion_start, text, or features and label
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub queries: Vec<PathBuf>,
    #[command(flatten)]
    pub out: OutArgs,
    /// Attribution method
    #[arg(long, value_enum, default_value_t = ScoreMethod::Ekfac)]
    pub method: ScoreMethod,
    /// Score every training example on itself instead of on queries
    #[arg(long, conflicts_with_all = ["queries", "rank", "per_layer", "per_token", "filter"])]
    pub self_influence: bool,
    /// rel:X times the layer's mean eigenvalue, or abs:X
    #[arg(long, default_value_t = Damping::default(), value_name = "rel:X|abs:X")]
    pub damping: Damping,
    /// The scalar that is explained
    #[arg(long, value_enum, default_value_t = MeasurementArg::LogLikelihood)]
    pub measurement: MeasurementArg,
    /// Keep preconditioned query gradients at this rank (32 is a good choice for large models) [default: full]
    #[arg(long, value_name = "R", value_parser = positive())]
    pub rank: Option<usize>,
    /// Also write scores per layer (layers-*.parquet)
    #[arg(long)]
    pub per_layer: bool,
    /// Scores per token: of the top rows, or of all (tokens-*.parquet)
    #[arg(long, value_enum, num_args = 0..=1, default_missing_value = "top")]
    pub per_token: Option<PerToken>,
    /// Keep the K strongest proponents and opponents of each query in top.parquet
    #[arg(long, value_name = "K", default_value_t = 20)]
    pub top: usize,
    /// N of the effect of one more copy, I/N [default: the rows of the data, up to --max-rows]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub n_train: Option<u64>,
    /// Score only the N best candidates of each query, such as tfidf:10000
    #[arg(long, value_name = "tfidf:N")]
    pub filter: Option<String>,
    #[command(flatten)]
    pub solve: SolveArgs,
    #[command(flatten)]
    pub pass: PassArgs,
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

/// Attribution methods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ScoreMethod {
    /// Influence with EK-FAC curvature (Grosse et al. 2023).
    Ekfac,
    /// Influence with K-FAC curvature.
    Kfac,
    /// Gradient dot product: influence with the identity as curvature.
    GradDot,
    /// Conjugate gradients with Gauss-Newton products, from EK-FAC on.
    EkfacCg,
    /// A stochastic Neumann series, from EK-FAC on (2507.14740).
    Astra,
    /// Conjugate gradients with Gauss-Newton products.
    Cg,
    /// A stochastic Neumann series (Koh & Liang 2017).
    Lissa,
    /// The leading eigenpairs of a Krylov subspace (Schioppa et al. 2021).
    Arnoldi,
    /// The mean of the examples' own inverses, layer by layer (2310.00902).
    #[value(name = "datainf")]
    DataInf,
    /// The exact Gauss-Newton matrix of a small model.
    Dense,
}

impl ScoreMethod {
    /// The word of the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ekfac => "ekfac",
            Self::Kfac => "kfac",
            Self::GradDot => "grad-dot",
            Self::EkfacCg => "ekfac-cg",
            Self::Astra => "astra",
            Self::Cg => "cg",
            Self::Lissa => "lissa",
            Self::Arnoldi => "arnoldi",
            Self::DataInf => "datainf",
            Self::Dense => "dense",
        }
    }

    /// Whether it needs the factors of a fit.
    pub fn needs_factors(self) -> bool {
        matches!(self, Self::Ekfac | Self::Kfac | Self::EkfacCg | Self::Astra)
    }

    /// Whether factors serve it at all: methods that need none take λ from those of EK-FAC.
    pub fn takes_factors(self) -> bool {
        self != Self::GradDot
    }

    /// Whether each query is solved by products over train examples.
    pub fn solves(self) -> bool {
        !matches!(self, Self::Ekfac | Self::Kfac | Self::GradDot)
    }

    /// Products (of arnoldi in all; else per query) or, of the series, batches that it takes unless told.
    pub fn default_steps(self) -> usize {
        match self {
            Self::Ekfac | Self::Kfac | Self::GradDot | Self::Dense | Self::DataInf => 1,
            Self::EkfacCg | Self::Cg => 50,
            Self::Arnoldi => 100,
            Self::Astra => 300,
            Self::Lissa => 1000,
        }
    }
}

impl ScoreArgs {
    /// Steps of a solver: those asked for, or the method's own.
    pub fn steps(&self) -> usize {
        self.solve.steps.unwrap_or(self.method.default_steps())
    }
}

/// How queries are solved by products with the Gauss-Newton matrix.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Solving (ekfac-cg, astra, cg, lissa, arnoldi, datainf, dense)")]
pub struct SolveArgs {
    /// Train examples that products with the curvature are taken over, evenly spread over the data
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = positive())]
    pub solve_rows: usize,
    /// Most products per query of cg and ekfac-cg, in all of arnoldi; batches of astra and lissa [default: 50, 100, 300, 1000]
    #[arg(long, value_name = "N", value_parser = positive())]
    pub steps: Option<usize>,
    /// Relative residual at which cg and ekfac-cg stop
    #[arg(long, value_name = "X", default_value_t = 1e-3)]
    pub tolerance: f64,
    /// Seed of the start of arnoldi, of the batches of astra and lissa, and of drawn labels where λ needs them
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub solve_seed: u64,
}

/// The scalar that is explained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MeasurementArg {
    /// log p of the completion or label; minus half the squared error.
    LogLikelihood,
    /// log p - log(1 - p).
    Margin,
}

/// Which rows get scores per token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PerToken {
    /// The top rows of each query.
    Top,
    /// Every row.
    All,
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
