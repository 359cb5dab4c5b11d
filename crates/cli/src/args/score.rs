//! Arguments of `etymon score`.

use std::path::PathBuf;

use clap::builder::ArgPredicate;
use clap::{Args, ValueEnum};
use etymon_curvature::Damping;
use etymon_model::Measurement;

use super::{DataArgs, ModelArgs, OutArgs, PassArgs, StageArgs, positive};
use crate::method::ScoreMethod;

const METHODS_HELP: &str = "\
Attribution methods, one or several separated by commas: then --out gets a folder for each, of which `etymon compare` makes
one page. `etymon methods` lists them with what each needs.";

/// `etymon score`.
#[derive(Clone, Debug, Args)]
#[command(mut_arg("model", |model| {
    model.required(false).required_unless_present("stages").default_value_if("stages", ArgPredicate::IsPresent, "PRETRAIN")
}))]
#[command(after_help = "\
Examples:
  etymon score --model M --factors F --data train.jsonl --queries q.jsonl --out S --per-layer --per-token
  etymon score --model M --factors F --data corpus/ --queries q.jsonl --out S --rank 32 --filter tfidf:10000
  etymon score --model M --method grad-dot --data train.csv --queries test.csv --out S
  etymon score --model M --factors F --method ekfac-cg --data train.jsonl --queries q.jsonl --out S --solve-rows 2000
  etymon score --model M --factors F --method ekfac,grad-cos,bm25 --data train.jsonl --queries q.jsonl --out S
  etymon score --stages PRE,FINE --method dense --data pretrain.csv --queries test.csv --out S
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
    /// Attribution methods, one or several separated by commas: then --out gets a folder for each
    #[arg(long = "method", value_enum, value_delimiter = ',', default_value = "ekfac", hide_possible_values = true,
        value_name = "NAME,…", long_help = METHODS_HELP)]
    pub methods: Vec<ScoreMethod>,
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
    pub other: OtherArgs,
    #[command(flatten)]
    pub stage: StageArgs,
    #[command(flatten)]
    pub pass: PassArgs,
}

impl ScoreArgs {
    /// Whether the scores of a method are each example's own norm, not those on queries.
    pub fn scores_selves(&self, method: ScoreMethod) -> bool {
        self.self_influence || method == ScoreMethod::SelfInfluence
    }

    /// Steps of a solver: those asked for, or the method's own.
    pub fn steps(&self, method: ScoreMethod) -> usize {
        self.solve.steps.unwrap_or(method.default_steps())
    }
}

/// How queries are solved by products with the Gauss-Newton matrix.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Solving (ekfac-cg, astra, cg, lissa, arnoldi, datainf, diagonal, dense)")]
pub struct SolveArgs {
    /// cg, dense: the Gauss-Newton matrix, or the true Hessian, which may be indefinite: a larger --damping helps. The Hessian is
    /// computed in f64: for small models
    #[arg(long, value_enum, default_value_t = CurvatureArg::GaussNewton)]
    pub curvature: CurvatureArg,
    /// Train examples that products with the curvature are taken over, evenly spread over the data
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = positive())]
    pub solve_rows: usize,
    /// Most products per query of cg and ekfac-cg, in all of arnoldi; batches of astra and lissa [default: 50, 100, 300, 1000]
    #[arg(long, value_name = "N", value_parser = positive())]
    pub steps: Option<usize>,
    /// Relative residual at which cg, ekfac-cg and astra stop
    #[arg(long, value_name = "X", default_value_t = 1e-3)]
    pub tolerance: f64,
    /// Train examples of each batch of astra and lissa
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = positive())]
    pub solve_batch: usize,
    /// Seed of the start of arnoldi, of the batches of astra and lissa, and of drawn labels where λ needs them
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub solve_seed: u64,
}

/// The matrix that is inverted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CurvatureArg {
    /// G.
    GaussNewton,
    /// The second derivative of the mean train loss.
    Hessian,
}

/// What single methods need.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Checkpoints, projections, logs (tracin-cp, trak, tracin-ideal)")]
pub struct OtherArgs {
    /// tracin-cp, trak: model folders, or folders of `etymon train` for all checkpoints in them. tracin-cp weighs each by its
    /// learning rate, where the training left it
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub checkpoints: Vec<PathBuf>,
    /// tracin-ideal: folder of `etymon train`, whose log has the losses of the queries (its `watch`)
    #[arg(long, value_name = "FOLDER")]
    pub log: Option<PathBuf>,
    /// trak: dimensions that gradients are projected to
    #[arg(long, value_name = "K", default_value_t = 2048, value_parser = positive())]
    pub trak_dim: usize,
    /// trak: ridge added to the projected Gram matrix
    #[arg(long, value_name = "X", default_value_t = 0.0)]
    pub trak_lambda: f64,
}

impl OtherArgs {
    /// For methods that need none of it.
    pub fn none() -> Self {
        Self { checkpoints: Vec::new(), log: None, trak_dim: 1, trak_lambda: 0.0 }
    }
}

/// The scalar that is explained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MeasurementArg {
    /// log p of the completion or label; minus half the squared error.
    LogLikelihood,
    /// log p - log(1 - p).
    Margin,
}

impl From<MeasurementArg> for Measurement {
    fn from(arg: MeasurementArg) -> Self {
        match arg {
            MeasurementArg::LogLikelihood => Self::LogLikelihood,
            MeasurementArg::Margin => Self::Margin,
        }
    }
}

/// Which rows get scores per token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PerToken {
    /// The top rows of each query.
    Top,
    /// Every row.
    All,
}
