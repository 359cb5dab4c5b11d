//! `etymon train`.

mod runs;

use etymon_tensor::Cpu;
use etymon_train::{Job, Observer, Outcome as Trained, Progress, train};
use serde_json::json;

use super::{CommandResult, Context, Outcome, print};
use crate::args::TrainArgs;
use crate::error::CliError;
use crate::progress::{Reporter, Task};

/// What `etymon train --example` prints.
const EXAMPLE: &str = include_str!("../../../assets/train.toml");

pub fn run(args: &TrainArgs, context: Context) -> CommandResult {
    let Some(path) = args.config.as_ref().filter(|_| !args.example) else {
        if !context.global.json {
            print(EXAMPLE);
        }
        return Ok(Outcome::Done(json!({ "example": EXAMPLE })));
    };
    let mut job = Job::read(path)?;
    if let Some(seed) = context.global.seed {
        (job.config.seed, job.plan.seed) = (seed, seed);
    }
    if let Some(out) = &args.out {
        job = job.with_out(out);
    }
    if let Some(n) = args.runs {
        return runs::run(args, n, job, context);
    }
    context.reporter.say(format!("train {}", job.out.display()));
    let mut bar = TrainBar { reporter: context.reporter, task: None, mean: None };
    let trained = train(Cpu::<f32>::new(), &job, args.overwrite(), &mut bar)?;
    bar.finish();
    if trained == Trained::AlreadyComplete {
        context.reporter.say(format!("{} is complete already", job.out.display()));
    }
    let model = job.out.join("model");
    if !model.exists() {
        return Err(CliError::Usage { option: "out", problem: format!("no model in {}", model.display()) });
    }
    context.reporter.say(format!("model in {}", model.display()));
    let merged = job.config.lora.as_ref().filter(|lora| lora.merge).map(|_| job.out.join("merged"));
    if let Some(merged) = &merged {
        context.reporter.say(format!("merged model in {}", merged.display()));
    }
    Ok(Outcome::Done(json!({ "model": model, "merged": merged, "loss": bar.mean })))
}

struct TrainBar {
    reporter: Reporter,
    task: Option<Task>,
    /// Running mean of the loss.
    mean: Option<f64>,
}

impl TrainBar {
    fn finish(&mut self) {
        if let Some(task) = self.task.take() {
            task.finish();
        }
    }
}

impl Observer for TrainBar {
    fn started(&mut self, step: u64, n_steps: u64) {
        self.task = Some(self.reporter.task("train", n_steps, step, "steps"));
    }

    fn step(&mut self, progress: &Progress<'_>) {
        if progress.loss.is_finite() {
            let mean = self.mean.unwrap_or(progress.loss);
            self.mean = Some(0.95 * mean + 0.05 * progress.loss);
        }
        if let Some(task) = &mut self.task {
            task.advance(1, progress.n_rows as u64);
            task.detail(format!("loss {:.3}", self.mean.unwrap_or(f64::NAN)));
        }
    }
}
