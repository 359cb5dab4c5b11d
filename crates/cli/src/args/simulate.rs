//! Arguments of `etymon simulate`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use etymon_simulate::{Kind, Unseen};

use super::OutArgs;

/// `etymon simulate`.
#[derive(Clone, Debug, Args)]
pub struct SimulateArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: SimulateCommand,
}

/// What to do with a simulator.
#[derive(Clone, Debug, Subcommand)]
pub enum SimulateCommand {
    /// Fit a simulator on the logs of training runs
    Fit(SimulateFitArgs),
    /// Fit each kind of simulator on some runs, and compare its roll-outs with runs that were held out
    Evaluate(SimulateEvaluateArgs),
    /// Simulate a curriculum: the losses of every watched example on the way
    Run(super::SimulateRunArgs),
    /// Edit the curriculum of a recorded run, and tell what would have changed; on request, train it really
    WhatIf(super::WhatIfArgs),
}

/// `etymon simulate fit`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  etymon simulate fit --log RUNS --out SIM                      RUNS: a folder of runs, each with its log
  etymon simulate fit --log RUNS --kind additive --lambda 0.1 --out SIM
  etymon simulate fit --log RUNS --hold-out 8 --out SIM         and say how well it does on the last 8 runs
  etymon simulate fit --log RUNS --kind tracin-cp --scores S --out SIM    S: of score --method tracin-cp on the watched rows")]
pub struct SimulateFitArgs {
    #[command(flatten)]
    pub fit: SimulateLogArgs,
    /// Form of the simulator
    #[arg(long, value_enum, default_value_t = KindArg::Linear)]
    pub kind: KindArg,
    /// Leave the last N runs out of the fit, and judge it by them
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub hold_out: usize,
    #[command(flatten)]
    pub out: OutArgs,
}

/// `etymon simulate evaluate`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  etymon simulate evaluate --log RUNS --hold-out 8 --out E
  etymon simulate evaluate --log RUNS --hold-out 8 --kinds linear,additive --json --out E
Columns: all-steps MSE in nats², mean over the held-out losses ± standard deviation over watched examples and over runs;
Spearman's correlation over watched examples at the last step, mean ± standard deviation over runs; the share of losses inside
of the 90 % bands, at all steps and at the last one.")]
pub struct SimulateEvaluateArgs {
    #[command(flatten)]
    pub fit: SimulateLogArgs,
    /// Forms of simulators [default: all; tracin-cp only with --scores]
    #[arg(long, value_enum, value_delimiter = ',')]
    pub kinds: Vec<KindArg>,
    /// Judge by the last N runs, which are left out of the fit
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub hold_out: usize,
    #[command(flatten)]
    pub out: OutArgs,
}

/// What is fitted on, and how.
#[derive(Clone, Debug, Args)]
pub struct SimulateLogArgs {
    /// Logs of runs: folders of runs, of one run, or of a log (docs/training-log.md)
    #[arg(long, required = true, num_args = 1.., value_name = "FOLDER")]
    pub log: Vec<PathBuf>,
    /// Ridge: auto chooses it by roll-outs of runs that are held out in turn; a number is λ itself
    #[arg(long, value_name = "auto|X", default_value = "auto", value_parser = lambda)]
    pub lambda: Lambda,
    /// tracin-cp: folder of `etymon score --method tracin-cp`, with the watched examples as queries
    #[arg(long, value_name = "FOLDER")]
    pub scores: Option<PathBuf>,
    /// What to do about train examples that no fitted run contained
    #[arg(long, value_enum, default_value_t = UnseenArg::Refuse)]
    pub unseen: UnseenArg,
    /// Draws from the posterior for bands; 0: no bands
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub draws: usize,
}

/// λ of the ridge.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lambda(
    /// None: chosen.
    pub Option<f64>,
);

fn lambda(text: &str) -> Result<Lambda, String> {
    if text == "auto" {
        return Ok(Lambda(None));
    }
    let number = text.parse().ok().filter(|x: &f64| x.is_finite() && *x > 0.0);
    number.map(|x| Lambda(Some(x))).ok_or_else(|| "must be `auto` or a positive number".to_owned())
}

/// Form of a simulator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum KindArg {
    /// L ← α(c) L + β(c).
    Linear,
    /// L ← α(c) L.
    Multiplicative,
    /// L ← L + β(c).
    Additive,
    /// Linear, with momentum (a part of each change goes on) and effects that are shrunk to what all examples share.
    Momentum,
    /// L ← L − κ η Σ S, with the scores of TracIn over checkpoints; κ alone is fitted.
    TracinCp,
}

impl SimulateEvaluateArgs {
    /// The kinds that are asked for, or all that can be had.
    pub fn kinds(&self) -> Vec<KindArg> {
        if !self.kinds.is_empty() {
            return self.kinds.clone();
        }
        let all = KindArg::value_variants().iter().copied();
        all.filter(|&kind| kind != KindArg::TracinCp || self.fit.scores.is_some()).collect()
    }
}

impl From<KindArg> for Kind {
    fn from(kind: KindArg) -> Self {
        match kind {
            KindArg::Linear => Self::Linear,
            KindArg::Multiplicative => Self::Multiplicative,
            KindArg::Additive => Self::Additive,
            KindArg::Momentum => Self::Momentum,
            KindArg::TracinCp => Self::TracinCp,
        }
    }
}

/// What to do about unseen examples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum UnseenArg {
    /// Refuse to simulate a curriculum with one.
    Refuse,
    /// Give them the mean effect of those that were seen.
    Mean,
}

impl From<UnseenArg> for Unseen {
    fn from(unseen: UnseenArg) -> Self {
        match unseen {
            UnseenArg::Refuse => Self::Refuse,
            UnseenArg::Mean => Self::Mean,
        }
    }
}
