//! Arguments of `etymon score`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use etymon_curvature::Damping;

use super::{DataArgs, ModelArgs, OutArgs, PassArgs, positive};

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
