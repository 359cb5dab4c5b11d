//! Arguments of `etymon score --stages`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use etymon_curvature::Damping;

use crate::method::ScoreMethod;

/// Influence of pre-training on queries of a fine-tuned model.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Two stages (ekfac, kfac, ekfac-cg, cg, dense)")]
pub struct StageArgs {
    /// Instead of --model: the folders of `etymon train` of pre-training and fine-tuning, or their models. --data are those of
    /// pre-training, --queries of the fine-tuned model; --out gets a table of each stage: pretraining, finetuning
    #[arg(long, value_name = "PRETRAIN,FINETUNE", value_delimiter = ',', num_args = 1, conflicts_with_all = ["model",
        "self_influence", "filter"])]
    pub stages: Vec<PathBuf>,
    /// Fine-tuning data [default: those of the fine-tuning's manifest]
    #[arg(long, value_name = "PATH", num_args = 1.., requires = "stages")]
    pub finetune_data: Vec<PathBuf>,
    /// How the curvature of fine-tuning is inverted, where another way than --method is wanted: ekfac of pre-training with cg of
    /// fine-tuning is exact where its data are few [default: --method]
    #[arg(long, value_enum, value_name = "METHOD", requires = "stages", hide_possible_values = true)]
    pub finetune_method: Option<ScoreMethod>,
    /// Folder of `etymon fit` on the fine-tuned model and its data, for ekfac, kfac and ekfac-cg
    #[arg(long, value_name = "FOLDER", requires = "stages")]
    pub finetune_factors: Option<PathBuf>,
    /// ρ of (ρ/2)|W - W*|² that holds shared layers near pre-training, beside the mean loss of a fine-tuning example: abs:X, or rel:X
    /// times the layer's mean eigenvalue [default: that of the fine-tuning's manifest, if it was tied]
    #[arg(long, value_name = "rel:X|abs:X", requires = "stages")]
    pub proximity: Option<Damping>,
    /// Damping of all layers that fine-tuning trains, such as its weight decay [default: that of --damping for those that nothing
    /// holds near pre-training, none for the others]
    #[arg(long, value_name = "rel:X|abs:X", requires = "stages")]
    pub finetune_damping: Option<Damping>,
    /// Curvature of the fine-tuning loss in cg and dense
    #[arg(long, value_enum, default_value_t = StageCurvature::Hessian, requires = "stages")]
    pub finetune_curvature: StageCurvature,
}

impl StageArgs {
    /// For a score of one stage.
    pub fn none() -> Self {
        Self {
            stages: Vec::new(),
            finetune_data: Vec::new(),
            finetune_method: None,
            finetune_factors: None,
            proximity: None,
            finetune_damping: None,
            finetune_curvature: StageCurvature::Hessian,
        }
    }
}

/// Curvature of the fine-tuning loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StageCurvature {
    /// The true one, exact at an optimum.
    Hessian,
    /// Never negative: for a model that is not at one.
    GaussNewton,
}

impl StageCurvature {
    /// The word of the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hessian => "hessian",
            Self::GaussNewton => "gauss-newton",
        }
    }
}
