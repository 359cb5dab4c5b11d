//! Tokens per second of training: `cargo bench -p etymon-train`.
#![allow(clippy::print_stdout, clippy::expect_used)]

use std::time::Instant;

use etymon_data::{Batch, Content, Example, ExampleIndex, Padding};
use etymon_model::{Consumer, DecoderConfig, Model, Objective};
use etymon_tensor::Cpu;
use etymon_train::{Length, Plan, Trainer};

const WARM_UP: u64 = 3;
const STEPS: u64 = 20;

fn main() {
    measure("gpt2, 4 layers, d 128, vocab 2048, 16 × 64 tokens", 2048, 64, 128, 4, 4, 16);
    measure("gpt2, 4 layers, d 256, vocab 2048, 16 × 128 tokens", 2048, 128, 256, 4, 4, 16);
}

/// The shortest of a few runs: a busy machine disturbs it least.
fn best(run: impl Fn() -> f64) -> f64 {
    (0..5).map(|_| run()).fold(f64::INFINITY, f64::min)
}

fn measure(name: &str, vocab: usize, context: usize, d: usize, layers: usize, heads: usize, batch_size: usize) {
    let json = DecoderConfig::gpt2_json(vocab, context, d, layers, heads);
    let model = Model::new(Cpu::<f32>::new(), json, 0).expect("a model");
    // Sequences of one token more than the context: every row of the batch is full.
    let token = |i: usize, t: usize| ((i * 7919 + t * 104_729) % vocab) as u32;
    let example = |i: usize| Example {
        index: ExampleIndex(i as u64),
        id: i.to_string(),
        content: Content::Tokens { ids: (0..=context).map(|t| token(i, t)).collect(), loss_start: 1 },
        text: String::new(),
        metadata: <_>::default(),
    };
    let train: Vec<Example> = (0..4 * batch_size).map(example).collect();
    let run = |steps: u64| {
        let plan = Plan { batch_size, length: Length::Steps(steps), ..Plan::default() };
        let mut trainer = Trainer::new(model.clone(), train.clone(), Vec::new(), plan).expect("a trainer");
        let started = Instant::now();
        trainer.run(&mut ()).expect("a run");
        started.elapsed().as_secs_f64()
    };
    run(WARM_UP);
    let seconds = best(|| run(STEPS) / STEPS as f64);
    let batch = Batch::stack(&train[..batch_size], Padding::None).expect("a batch");
    let gradient = best(|| {
        let started = Instant::now();
        let mut grads = model.params().zeros_like(model.backend());
        model.run(&batch, Objective::TrainLoss, Consumer::Gradients(&mut grads)).expect("a gradient");
        started.elapsed().as_secs_f64()
    });
    let (tokens, step) = ((batch_size * context) as f64, seconds * 1e3);
    println!("{name}: {step:.1} ms per step ({:.1} ms the gradient), {:.0} tokens/s", gradient * 1e3, tokens / seconds);
}
