//! Models, examples and comparisons that several tests use.
#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use etymon_data::{Content, Example, ExampleIndex, Target};
use etymon_model::{DecoderConfig, Model};
use etymon_tensor::Backend;
use etymon_train::{Observer, Progress};
use serde_json::json;

/// Stops after some steps.
pub struct StopAfter(pub u64);

impl Observer for StopAfter {
    fn step(&mut self, _: &Progress<'_>) {
        self.0 -= 1;
    }

    fn should_stop(&mut self) -> bool {
        self.0 == 0
    }
}

/// Deterministic numbers below `n`.
pub struct Numbers(pub u64);

impl Numbers {
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

pub fn example(index: u64, content: Content) -> Example {
    Example {
        index: ExampleIndex(index),
        id: format!("e{index}"),
        content,
        text: String::new(),
        metadata: <_>::default(),
    }
}

pub fn row(index: u64, values: Vec<f32>, class: u32) -> Example {
    example(index, Content::Features { values, target: Target::Class(class) })
}

/// `n` sequences of 5 to `longest` tokens in which each token is mostly the one before + 3.
pub fn sequences(n: u64, vocab: u64, longest: u64) -> Vec<Example> {
    let mut numbers = Numbers(7);
    (0..n)
        .map(|index| {
            let mut token = numbers.below(vocab);
            let len = 5 + numbers.below(longest - 4);
            let mut next = || {
                token = if numbers.below(10) == 0 { numbers.below(vocab) } else { (token + 3) % vocab };
                token as u32
            };
            let ids = (0..len).map(|_| next()).collect();
            example(index, Content::Tokens { ids, loss_start: 1 })
        })
        .collect()
}

/// A GPT-2 of one block for 20 tokens.
pub fn tiny_gpt2<B: Backend>(backend: B) -> Model<B> {
    Model::new(backend, DecoderConfig::gpt2_json(20, 16, 16, 1, 2), 3).unwrap()
}

pub fn mlp<B: Backend>(backend: B, sizes: &[usize], activation: &str) -> Model<B> {
    let json = json!({"model_type": "mlp", "sizes": sizes, "activation": activation, "task": "classification"});
    Model::new(backend, json, 1).unwrap()
}

/// All parameters, one after the other.
pub fn numbers_of<B: Backend>(model: &Model<B>) -> Vec<f64> {
    model.params().iter().flat_map(|t| model.backend().download::<f64>(t)).collect()
}

/// Whether two models are the same to the bit.
pub fn same_bits<B: Backend>(a: &Model<B>, b: &Model<B>) -> bool {
    let bits = |m| numbers_of(m).into_iter().map(f64::to_bits).collect::<Vec<_>>();
    bits(a) == bits(b)
}

pub fn distance(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max)
}
