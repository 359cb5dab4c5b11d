//! Arguments of `etymon evaluate pbrf`.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use etymon_curvature::Damping;

use super::{DataArgs, MeasurementArg, ModelArgs, OutArgs, positive};

/// `etymon evaluate pbrf`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  etymon evaluate pbrf --model M --factors F --data train.csv --queries q.csv --scores S1 S2 --pairs 500x10 --out E
  etymon evaluate pbrf --model M --damping abs:1e-3 --data train.csv --queries q.csv --scores S --out E
For each training example m, the trained parameters are moved to the minimum of
  (1/N) sum_i D(h(x_i), h_trained(x_i)) + e L(m) + sum_l damping_l/2 |theta_l - trained_l|^2
(Bae et al. 2022), in f64, and the change of each query is compared with e I(q, m). The scores must be those of all training
examples, with the same damping. Responses are kept in the output folder: more scores are judged without computing them again.")]
pub struct PbrfArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Folder of `etymon fit`, whose eigenvalues a damping of rel:X is relative to
    #[arg(long, value_name = "FOLDER")]
    pub factors: Option<PathBuf>,
    #[command(flatten)]
    pub data: DataArgs,
    /// Queries, as for `etymon score`
    #[arg(long, value_name = "PATH", num_args = 1.., required = true)]
    pub queries: Vec<PathBuf>,
    /// Folders of `etymon score`, to judge
    #[arg(long, value_name = "FOLDER", num_args = 1..)]
    pub scores: Vec<PathBuf>,
    #[command(flatten)]
    pub out: OutArgs,
    /// Random training examples x random queries
    #[arg(long, default_value = "500x10", value_name = "MxQ")]
    pub pairs: Pairs,
    /// Damping of each layer: rel:X times the mean eigenvalue of the factors, or abs:X
    #[arg(long, default_value_t = Damping::default(), value_name = "rel:X|abs:X")]
    pub damping: Damping,
    /// e is this / N: 1 adds one more copy of a training example, -1 removes it
    #[arg(long, default_value_t = 1.0, value_name = "X", allow_negative_numbers = true)]
    pub copies: f64,
    /// The scalar that is explained, as for `etymon score`
    #[arg(long, value_enum, default_value_t = MeasurementArg::LogLikelihood)]
    pub measurement: MeasurementArg,
    /// How the objective is minimised
    #[arg(long, value_enum, default_value_t = MinimiserArg::Lbfgs)]
    pub minimiser: MinimiserArg,
    /// Part of its start to which the norm of the gradient must fall
    #[arg(long, default_value_t = 1e-4, value_name = "X")]
    pub tolerance: f64,
    /// Most gradients of lbfgs, steps of adam [default: 2000, 5000]
    #[arg(long, value_name = "N", value_parser = positive())]
    pub steps: Option<usize>,
    /// Leading eigenpairs of the Gauss-Newton matrix that lbfgs starts from: fewer gradients, the same minimum. Each takes
    /// the memory of the weights
    #[arg(long, default_value_t = 100, value_name = "K")]
    pub leading: usize,
    /// Learning rate of adam at its start
    #[arg(long, default_value_t = 1e-4, value_name = "X")]
    pub rate: f64,
    /// Training examples per forward pass
    #[arg(long, default_value_t = 1024, value_name = "N", value_parser = positive())]
    pub batch_examples: usize,
}

/// `MxQ`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pairs {
    /// Training examples.
    pub train: usize,
    /// Queries.
    pub queries: usize,
}

impl FromStr for Pairs {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.split_once('x').and_then(|(m, q)| Some((m.parse().ok()?, q.parse().ok()?)));
        match numbers {
            Some((train, queries)) if train > 1 && queries > 0 => Ok(Self { train, queries }),
            _ => Err("expected MxQ, such as 500x10, with M of 2 or more".to_owned()),
        }
    }
}

/// Minimisers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MinimiserArg {
    /// L-BFGS.
    Lbfgs,
    /// Adam with a learning rate that falls to 0: slow, and nothing to tune but the rate.
    Adam,
}
