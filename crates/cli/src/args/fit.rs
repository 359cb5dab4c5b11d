//! Arguments of `etymon fit`.

use clap::{Args, ValueEnum};

use super::{DataArgs, ModelArgs, OutArgs, PassArgs};

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
    /// Fit on N examples, evenly spread over the data, instead of on all
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub max_examples: Option<u64>,
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
