//! How far simulated runs are from the real ones.

use etymon_evaluate::statistics::spearman;

use crate::Result;
use crate::recorded::{Recorded, Run};
use crate::roll_out::{QUARTERS, quarter};
use crate::simulator::Simulator;

/// One loss that was measured and simulated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Error {
    /// Simulated less measured, in nats.
    pub error: f64,
    /// Half the width of the 90 % band; NaN without bands.
    pub half: f64,
    /// The quarter of the run that it is in.
    pub quarter: usize,
}

impl Error {
    /// |error| / half the width of the band.
    pub fn relative(&self) -> f64 {
        self.error.abs() / self.half
    }
}

/// The errors `[measured − 1, Q]` of a run that is simulated from its first losses; those at step 0 are no errors.
pub(crate) fn errors(simulator: &Simulator, run: &Run) -> Result<Vec<Error>> {
    let q = simulator.query_ids().len();
    let rolled = simulator.roll_out(&run.curriculum, run.first_losses(q))?;
    let measured = run.measured.iter().zip(run.losses.chunks_exact(q.max(1))).skip(1);
    let at = |(&step, real): (&u64, &[f64])| {
        let of = step as usize * q;
        let quarter = quarter(step as usize, run.curriculum.n_steps());
        let half = |k: usize| rolled.upper.get(of + k).map_or(f64::NAN, |upper| upper - rolled.losses[of + k]);
        (0..q).map(|k| Error { error: rolled.losses[of + k] - real[k], half: half(k), quarter }).collect::<Vec<_>>()
    };
    Ok(measured.flat_map(at).collect())
}

/// Mean of squared errors.
pub(crate) fn mean_square(errors: &[Error]) -> f64 {
    errors.iter().map(|e| e.error * e.error).sum::<f64>() / errors.len() as f64
}

/// A run beside its simulation.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// The run.
    pub run: String,
    /// `[Q]` Mean over the measured steps (without the first, where the simulation starts) of the squared error, in nats².
    pub mse: Vec<f64>,
    /// Spearman's correlation over queries of simulated and measured losses at the last measured step.
    pub final_spearman: Option<f64>,
    /// `[4]` Of the losses in each quarter of the steps, the share inside of the 90 % band; empty without bands.
    pub coverage: Vec<f64>,
    /// The share of all losses inside; none without bands.
    pub covered: Option<f64>,
    /// The share of the last losses inside; none without bands.
    pub final_covered: Option<f64>,
}

/// Simulates runs, of the train examples and queries of the simulator in its order, and compares.
///
/// # Errors
/// As [`Simulator::roll_out`].
pub fn judge(simulator: &Simulator, recorded: &Recorded) -> Result<Vec<Judged>> {
    recorded.runs.iter().map(|run| judge_run(simulator, run)).collect()
}

fn judge_run(simulator: &Simulator, run: &Run) -> Result<Judged> {
    let q = simulator.query_ids().len();
    let errors = errors(simulator, run)?;
    let rows: Vec<&[Error]> = errors.chunks_exact(q.max(1)).collect();
    let mse = (0..q).map(|k| mean_square(&rows.iter().map(|row| row[k]).collect::<Vec<_>>())).collect();
    let last = rows.last().copied().unwrap_or_default();
    let real = run.losses.get(run.losses.len() - last.len()..).unwrap_or_default();
    let simulated: Vec<f64> = last.iter().zip(real).map(|(e, real)| real + e.error).collect();
    let inside = |errors: &[Error]| {
        let count = errors.iter().filter(|e| e.relative() <= 1.0).count();
        (simulator.has_bands() && !errors.is_empty()).then(|| count as f64 / errors.len() as f64)
    };
    let of_quarter = |k: usize| inside(&errors.iter().filter(|e| e.quarter == k).copied().collect::<Vec<_>>());
    Ok(Judged {
        run: run.name.clone(),
        mse,
        final_spearman: spearman(&simulated, real),
        coverage: (0..QUARTERS).filter_map(of_quarter).collect(),
        covered: inside(&errors),
        final_covered: inside(last),
    })
}
