//! Arguments of `etymon group`.

use std::path::PathBuf;

use clap::Args;
use etymon_curvature::Damping;

use super::score::{OtherArgs, SolveArgs};
use super::{DataArgs, MeasurementArg, ModelArgs, OutArgs, PassArgs, ScoreArgs, StageArgs};
use crate::method::ScoreMethod;

/// `etymon group`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  etymon group --model M --factors F --data train.jsonl --queries q.jsonl --by source --out G
  etymon group --model M --factors F --data train.csv --queries q.csv --ids batch7.txt batch8.txt --method ekfac-cg --out G
First order: the sum of the scores I(q, m) of the group. Second order (Basu et al. 2020, 1911.00418): with the correction for
what the examples of the group have in common. Without the group f changes by about -second/N.
The correction multiplies the exact curvature of the group with the inverse. Where this is far from exact, as ekfac and kfac can
be, it comes out much too large: take first order then, or a solver such as ekfac-cg or dense.
One line per group and query in groups.parquet; etymon evaluate leave-k-out --by COLUMN retrains without the groups.")]
pub struct GroupArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Folder of `etymon fit`: for ekfac, kfac, ekfac-cg and astra; other methods take the damping from it
    #[arg(long, value_name = "FOLDER")]
    pub factors: Option<PathBuf>,
    #[command(flatten)]
    pub data: DataArgs,
    /// Queries, as of `etymon score`
    #[arg(long, value_name = "PATH", required = true, num_args = 1..)]
    pub queries: Vec<PathBuf>,
    /// One group per value of this column of the training data; a list puts a row into several groups
    #[arg(long, value_name = "COLUMN", required_unless_present = "ids", conflicts_with = "ids")]
    pub by: Option<String>,
    /// Files of train ids, one per line: a group each, named as the file
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub ids: Vec<PathBuf>,
    #[command(flatten)]
    pub out: OutArgs,
    /// The inverse curvature: ekfac, kfac, ekfac-cg, astra, cg, lissa, arnoldi, datainf or dense
    #[arg(long, value_enum, default_value = "ekfac", hide_possible_values = true, value_name = "NAME")]
    pub method: ScoreMethod,
    /// rel:X times the layer's mean eigenvalue, or abs:X
    #[arg(long, default_value_t = Damping::default(), value_name = "rel:X|abs:X")]
    pub damping: Damping,
    /// The scalar that is explained
    #[arg(long, value_enum, default_value_t = MeasurementArg::LogLikelihood)]
    pub measurement: MeasurementArg,
    /// N of the share |U|/N of a group [default: the rows of the data, up to --max-rows]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub n_train: Option<u64>,
    #[command(flatten)]
    pub solve: SolveArgs,
    #[command(flatten)]
    pub pass: PassArgs,
}

impl GroupArgs {
    /// The score whose inputs and inverse are those of the groups.
    pub fn score(&self) -> ScoreArgs {
        ScoreArgs {
            model: self.model.clone(),
            factors: self.factors.clone(),
            data: self.data.clone(),
            queries: self.queries.clone(),
            out: self.out.clone(),
            methods: vec![self.method],
            self_influence: false,
            damping: self.damping,
            measurement: self.measurement,
            rank: None,
            per_layer: false,
            per_token: None,
            top: 0,
            n_train: self.n_train,
            filter: None,
            solve: self.solve.clone(),
            other: OtherArgs::none(),
            stage: StageArgs::none(),
            pass: self.pass,
        }
    }
}
