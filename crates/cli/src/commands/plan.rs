//! `etymon plan`: what a command will need, before it runs.

use std::time::Instant;

use etymon_data::{Batch, BatchLimits, Batches, Corpus, Padding};
use etymon_model::{Consumer, LayerIo, ModelError, Objective, Tap};
use etymon_tensor::{Backend, Folds, Shape, Transpose};
use serde_json::json;

use super::{CommandResult, Context, Outcome, fit, print, score};
use crate::args::{PlanArgs, Planned as What};
use crate::choice::Choice;
use crate::error::Result;
use crate::estimate::{Phase, peak};
use crate::machine::Bytes;
use crate::open::{Opened, Work};

/// Rows of the batch that is timed.
const TIMED_ROWS: usize = 512;
/// Side of the square product that is timed.
const SIDE: usize = 1024;
/// Side of the eigendecomposition that is timed.
const EIGEN_SIDE: usize = 384;

/// A command that was opened and counted.
pub struct Planned {
    /// The model.
    pub opened: Opened,
    /// The training data.
    pub corpus: Corpus,
    /// How it stays within its memory.
    pub choice: Choice,
    /// Its phases.
    pub phases: Vec<Phase>,
}

pub fn run(args: &PlanArgs, context: Context) -> CommandResult {
    let planned = match &args.command {
        What::Fit(args) => fit::plan(args)?,
        What::Score(args) => score::plan(args)?,
    };
    let speed = Speed::measure(&planned)?;
    let phases: Vec<(&Phase, f64)> = planned.phases.iter().map(|p| (p, speed.seconds(p))).collect();
    if !context.global.json {
        print(&table(&phases, &planned));
    }
    let of = |(p, seconds): &(&Phase, f64)| {
        json!({
            "phase": p.name, "memory_bytes": p.memory, "disk_bytes": p.disk, "rows": p.rows,
            "flops": p.model_flops + p.fold_flops, "seconds": seconds,
        })
    };
    Ok(Outcome::Done(json!({
        "batch_rows": planned.choice.batch_rows,
        "layer_groups": planned.choice.groups.len(),
        "memory_bytes": peak(&planned.phases),
        "seconds": phases.iter().map(|(_, s)| s).sum::<f64>(),
        "phases": phases.iter().map(of).collect::<Vec<_>>(),
    })))
}

fn table(phases: &[(&Phase, f64)], planned: &Planned) -> String {
    let mut text = format!("{:<20} {:>12} {:>12} {:>10} {:>10}\n", "phase", "memory", "disk", "GFLOP", "time");
    for (p, seconds) in phases {
        let (memory, disk) = (Bytes(p.memory).to_string(), Bytes(p.disk).to_string());
        let gflop = (p.model_flops + p.fold_flops) / 1e9;
        text += &format!("{:<20} {memory:>12} {disk:>12} {gflop:>10.1} {seconds:>8.1} s\n", p.name);
    }
    let total: f64 = phases.iter().map(|(_, s)| s).sum();
    let Choice { batch_rows, groups } = &planned.choice;
    text += &format!("peak {}, {total:.1} s, in batches of {batch_rows} rows", Bytes(peak(&planned.phases)));
    match groups.len() {
        1 => text + ", all layers at once",
        n => text + &format!(", in {n} groups of layers: one pass for each"),
    }
}

/// What a short calibration found.
struct Speed {
    /// Seconds per counted operation of the model's forward and backward.
    model: f64,
    /// Seconds per operation of a large product.
    product: f64,
    /// Seconds per counted operation of an eigendecomposition.
    eigen: f64,
}

impl Speed {
    fn measure(planned: &Planned) -> Result<Self> {
        let backend = planned.opened.model.backend();
        let shape = Shape::new(SIDE, SIDE);
        let numbers: Vec<f32> = (0..SIDE * SIDE).map(|i| (i % 97) as f32 - 48.0).collect();
        let x = backend.upload(shape, &numbers)?;
        let product = seconds_of(|| Ok(backend.matmul(&x, Transpose::No, &x, Transpose::No).map(drop)?))?;
        Ok(Self {
            model: model_seconds(planned)?,
            product: product / (2.0 * (SIDE as f64).powi(3)),
            eigen: eigen_seconds(backend, &numbers)?,
        })
    }

    fn seconds(&self, phase: &Phase) -> f64 {
        let fold = if phase.rows == 0 { self.eigen } else { self.product };
        phase.model_flops * self.model + phase.fold_flops * fold
    }
}

/// The time of the second of two runs: the first fills buffers.
fn seconds_of(mut run: impl FnMut() -> Result<()>) -> Result<f64> {
    run()?;
    let started = Instant::now();
    run()?;
    Ok(started.elapsed().as_secs_f64())
}

struct Ignore;

impl<B: Backend> Tap<B> for Ignore {
    fn layer(&mut self, _: LayerIo<'_, B>) -> std::result::Result<(), ModelError> {
        Ok(())
    }
}

/// Seconds per counted operation of one batch of the data.
fn model_seconds(planned: &Planned) -> Result<f64> {
    let limits = BatchLimits { max_rows: TIMED_ROWS.min(planned.choice.batch_rows), max_examples: usize::MAX };
    let Some(group) = Batches::new(planned.corpus.examples(), limits).next() else { return Ok(0.0) };
    let batch = Batch::stack(&group?, Padding::None)?;
    let model = &planned.opened.model;
    let once = || Ok(model.run(&batch, Objective::TrainLoss, Consumer::Tap(&mut Ignore)).map(drop)?);
    let (rows, examples) = (batch.n_rows().max(1) as u64, batch.n_examples().max(1) as u64);
    Ok(seconds_of(once)? / model.pass_flops(rows, rows / examples))
}

/// Seconds per counted operation of a covariance's decomposition.
fn eigen_seconds(backend: &Work, numbers: &[f32]) -> Result<f64> {
    use etymon_curvature::{Covariances, LayerCovariance, eigen_flops, eigendecompose};
    use etymon_model::{LayerId, LayerSpec};
    let d = EIGEN_SIDE;
    let x = backend.upload(Shape::new(d, d), &numbers[..d * d])?;
    let mut sums = backend.sums(Shape::new(d, d), vec![0.0; d * d])?;
    backend.syrk_accumulate(&x, &mut sums)?;
    let s = backend.take_values(sums);
    let spec =
        LayerSpec { name: "calibration".to_owned(), d_in: 1, d_out: d, bias: false, input: LayerId(0), positions: 1 };
    let layer = LayerCovariance { a: vec![1.0], s, rows: 1 };
    let sums = Covariances { layers: vec![layer], examples: 1 };
    let started = Instant::now();
    eigendecompose(sums, std::slice::from_ref(&spec), |_| ())?;
    Ok(started.elapsed().as_secs_f64() / eigen_flops(&[spec]))
}
