//! `etymon doctor`: checks on the user's own model, data and factors.

use etymon_curvature::Spectrum;
use etymon_data::{Batch, Content, Example, Padding, Target};
use etymon_model::{Consumer, LayerId, Model, Objective, Task};
use etymon_tensor::{Backend, Cpu, Precision};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::{CommandResult, Context, Outcome, print};
use crate::args::DoctorArgs;
use crate::error::{CliError, Result};
use crate::open::{Opened, Work, open_factors, open_model, open_rows};

/// A matrix of the gradient check.
type Tensor = <Cpu<f64> as Backend>::Tensor;

/// Examples that are checked.
const EXAMPLES: usize = 4;
/// Most relative error of a directional derivative in f64.
const GRADIENT_TOLERANCE: f64 = 1e-6;
/// Most relative difference of losses in f32 when only the batch or the padding differs.
const INVARIANCE_TOLERANCE: f64 = 1e-5;
/// Tokens that a prompt is continued by.
const CONTINUED: usize = 8;
/// Step of the central difference.
const STEP: f64 = 1e-5;

pub fn run(args: &DoctorArgs, context: Context) -> CommandResult {
    let opened = open_model(&args.model, Precision::F32)?;
    if args.prompt.is_some() && opened.encoder.is_none() {
        return Err(CliError::NoTokenizer);
    }
    let mut findings = Findings { checks: Vec::new(), show: !context.global.json };
    findings.note(
        "model",
        format!("{} parameters, {} tapped layers", opened.model.n_params(), opened.model.layers().len()),
    );
    let examples = examples(args, &opened)?;
    gradient(&opened.model, &examples, args.check_tokens, &mut findings)?;
    batch_invariance(&opened.model, &examples, &mut findings)?;
    if opened.model.config().context().is_some() {
        padding_invariance(&opened.model, &examples, &mut findings)?;
    }
    if let Some(prompt) = &args.prompt {
        continuation(&opened, prompt, &mut findings)?;
    }
    if let Some(folder) = &args.factors {
        conditioning(folder, args, opened.model, &mut findings)?;
    }
    let value = json!({ "checks": findings.checks, "passed": findings.passed() });
    Ok(if findings.passed() { Outcome::Done(value) } else { Outcome::Found(value) })
}

struct Findings {
    checks: Vec<Value>,
    show: bool,
}

impl Findings {
    fn note(&mut self, name: &str, text: String) {
        self.add(name, None, text);
    }

    fn check(&mut self, name: &str, passed: bool, text: String) {
        self.add(name, Some(passed), text);
    }

    fn add(&mut self, name: &str, passed: Option<bool>, text: String) {
        if self.show {
            let mark = match passed {
                Some(true) => "ok  ",
                Some(false) => "FAIL",
                None => "    ",
            };
            print(&format!("{mark}  {name:<20} {text}"));
        }
        self.checks.push(json!({ "name": name, "passed": passed, "detail": text }));
    }

    fn passed(&self) -> bool {
        self.checks.iter().all(|c| c["passed"] != json!(false))
    }
}

/// A few examples of the data, or random ones.
fn examples(args: &DoctorArgs, opened: &Opened) -> Result<Vec<Example>> {
    if args.data.is_empty() {
        return Ok(random_examples(&opened.model));
    }
    let corpus = open_rows(opened, &args.data, &args.rows)?;
    let examples = corpus.examples().take(EXAMPLES).collect::<std::result::Result<Vec<_>, _>>()?;
    examples.iter().try_for_each(|e| opened.model.check(e))?;
    Ok(examples)
}

fn random_examples(model: &Model<Work>) -> Vec<Example> {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let content = |i: usize, rng: &mut ChaCha8Rng| match (model.config(), model.config().rows()) {
        (_, Some(shape)) => {
            let values = (0..shape.features).map(|_| rng.random::<f32>()).collect();
            let target = match shape.task {
                Task::Classification => Target::Class(rng.random_range(0..shape.outputs as u32)),
                Task::Regression => Target::Values((0..shape.outputs).map(|_| rng.random::<f32>()).collect()),
            };
            Content::Features { values, target }
        }
        (config, None) => {
            let n = (5 + 7 * i).min(config.context().unwrap_or(usize::MAX));
            let vocab = config.vocab().unwrap_or(0) as u32;
            Content::Tokens { ids: (0..n).map(|_| rng.random_range(0..vocab)).collect(), loss_start: 1 }
        }
    };
    (0..EXAMPLES)
        .map(|i| Example {
            index: etymon_data::ExampleIndex(i as u64),
            id: i.to_string(),
            content: content(i, &mut rng),
            text: String::new(),
            metadata: serde_json::Map::new(),
        })
        .collect()
}

/// The derivative of the loss along a direction of all parameters, against a central difference, in f64. The direction is
/// half gradient, half random: along a random one alone the derivative of a large model is lost in rounding.
fn gradient(model: &Model<Work>, examples: &[Example], most_tokens: usize, findings: &mut Findings) -> Result<()> {
    let mut exact = model.to_backend(Cpu::<f64>::new())?;
    let short: Vec<Example> = examples.iter().take(2).map(|e| shortened(e, most_tokens)).collect();
    let batch = Batch::stack(&short, Padding::None)?;
    let backend = *exact.backend();
    let mut grads = exact.params().zeros_like(&backend);
    exact.run(&batch, Objective::TrainLoss, Consumer::Gradients(&mut grads))?;
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut directions = Vec::new();
    for param in exact.params().iter() {
        let shape = backend.shape(param);
        let numbers: Vec<f64> = (0..shape.len()).map(|_| rng.random::<f64>() - 0.5).collect();
        directions.push(backend.upload(shape, &numbers)?);
    }
    let squares = |parts: &mut dyn Iterator<Item = &Tensor>| -> Result<f64> {
        Ok(parts.map(|x| Ok(backend.dot(x, x)?)).collect::<Result<Vec<f64>>>()?.iter().sum())
    };
    let (of_gradient, of_random) = (squares(&mut grads.iter())?.sqrt(), squares(&mut directions.iter())?.sqrt());
    let mut analytic = 0.0;
    for (grad, direction) in grads.iter().zip(&mut directions) {
        backend.scale(1.0 / of_random, direction);
        backend.axpy(1.0 / of_gradient.max(1e-300), grad, direction)?;
        analytic += backend.dot(grad, direction)?;
    }
    let step = STEP;
    let mut loss_at = |shift: f64| -> Result<f64> {
        for (param, direction) in exact.params_mut().iter_mut().zip(&directions) {
            backend.axpy(shift, direction, param)?;
        }
        Ok(exact.run(&batch, Objective::TrainLoss, Consumer::Values)?.iter().sum())
    };
    let above = loss_at(step)?;
    let below = loss_at(-2.0 * step)?;
    let numeric = (above - below) / (2.0 * step);
    let error = (numeric - analytic).abs() / analytic.abs().max(1e-12);
    let text =
        format!("directional derivative {analytic:.9e}, finite difference {numeric:.9e}, relative error {error:.1e}");
    findings.check("gradient", error < GRADIENT_TOLERANCE, text);
    Ok(())
}

fn shortened(example: &Example, most: usize) -> Example {
    let mut short = example.clone();
    if let Content::Tokens { ids, loss_start } = &mut short.content {
        ids.truncate(most.max(2));
        *loss_start = (*loss_start).min(ids.len() - 1);
    }
    short
}

fn batch_invariance(model: &Model<Work>, examples: &[Example], findings: &mut Findings) -> Result<()> {
    let together = losses(model, examples, Padding::None)?;
    let mut alone = Vec::new();
    for example in examples {
        alone.extend(losses(model, std::slice::from_ref(example), Padding::None)?);
    }
    let error = difference(&together, &alone);
    let text = format!("losses of {} examples together and alone differ by {error:.1e}", examples.len());
    findings.check("batch invariance", error < INVARIANCE_TOLERANCE, text);
    Ok(())
}

fn padding_invariance(model: &Model<Work>, examples: &[Example], findings: &mut Findings) -> Result<()> {
    let longest = examples.iter().map(Example::n_rows).max().unwrap_or(0);
    let plain = losses(model, examples, Padding::None)?;
    let padded = losses(model, examples, Padding::To(longest + 3))?;
    let error = difference(&plain, &padded);
    let text = format!("losses with and without padding to {} rows differ by {error:.1e}", longest + 3);
    findings.check("padding invariance", error < INVARIANCE_TOLERANCE, text);
    Ok(())
}

fn losses(model: &Model<Work>, examples: &[Example], padding: Padding) -> Result<Vec<f64>> {
    Ok(model.run(&Batch::stack(examples, padding)?, Objective::TrainLoss, Consumer::Values)?.into_vec())
}

fn difference(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(x, y)| (x - y).abs() / x.abs().max(1.0)).fold(0.0, f64::max)
}

/// Eigenvalues per layer: their range, and how many directions carry the curvature.
fn conditioning(
    folder: &std::path::Path,
    args: &DoctorArgs,
    mut model: Model<Work>,
    findings: &mut Findings,
) -> Result<()> {
    let factors = open_factors(folder, &args.model, &mut model)?;
    let kind = if factors.has_correction() { Spectrum::Corrected } else { Spectrum::Kronecker };
    for (i, spec) in model.layers().iter().enumerate() {
        let values = factors.spectrum(LayerId(i), kind)?;
        let finite = values.iter().all(|x| x.is_finite() && *x >= 0.0);
        let sum: f64 = values.iter().map(|&x| f64::from(x)).sum();
        let squares: f64 = values.iter().map(|&x| f64::from(x).powi(2)).sum();
        let max = values.iter().copied().fold(0.0f32, f32::max);
        let mean = sum / values.len().max(1) as f64;
        let below = values.iter().filter(|&&x| f64::from(x) < 0.1 * mean).count() as f64 / values.len().max(1) as f64;
        let text = format!(
            "mean eigenvalue {mean:.2e}, largest {max:.2e}, effective rank {:.0} of {}, {:.0} % below the default damping",
            if squares > 0.0 { sum * sum / squares } else { 0.0 },
            values.len(),
            100.0 * below
        );
        findings.check(&spec.name, finite && sum > 0.0, text);
    }
    Ok(())
}

/// Greedy continuation of a prompt.
fn continuation(opened: &Opened, prompt: &str, findings: &mut Findings) -> Result<()> {
    let Some(encoder) = &opened.encoder else { return Err(CliError::NoTokenizer) };
    let mut ids = encoder.encode(prompt)?;
    let start = ids.len();
    let context = opened.model.config().context().unwrap_or(0);
    while ids.len() < (start + CONTINUED).min(context) && start > 0 {
        let logits: Vec<f32> = opened.model.logits_at(&ids, &[ids.len() - 1])?;
        let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(i, _)| i);
        ids.push(best as u32);
    }
    findings.note("continuation", format!("{prompt}[{}]", encoder.decode(&ids[start..])?));
    Ok(())
}
