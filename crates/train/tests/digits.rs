//! A real task: 300 of the handwritten digits of Alpaydin & Kaynak (UCI, CC BY 4.0), 8 × 8 pixels of 0..=16, one image
//! per line of `data/digits.txt` in base 17.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use common::{mlp, row};
use etymon_data::{Content, Example, Target};
use etymon_tensor::Cpu;
use etymon_train::{Decay, LearningRate, Length, Optimizer, Plan, Trainer};

fn digits() -> Vec<Example> {
    let image = |(index, line): (usize, &str)| {
        let (pixels, label) = line.split_once(' ').unwrap();
        let values = pixels.chars().map(|c| c.to_digit(17).unwrap() as f32 / 16.0).collect();
        row(index as u64, values, label.parse().unwrap())
    };
    include_str!("data/digits.txt").lines().enumerate().map(image).collect()
}

#[test]
fn an_mlp_learns_to_read_digits() {
    let examples = digits();
    let plan = Plan {
        length: Length::Epochs(30),
        batch_size: 50,
        optimizer: Optimizer::Sgd { momentum: 0.9 },
        learning_rate: LearningRate::constant(0.05),
        weight_decay: 1e-3,
        decay: Decay::All,
        ..Plan::default()
    };
    let start = mlp(Cpu::<f32>::new(), &[64, 128, 64, 10], "relu");
    let mut trainer = Trainer::new(start, examples.clone(), Vec::new(), plan).unwrap();
    trainer.run(&mut ()).unwrap();
    let right = |example: &&Example| {
        let Content::Features { values, target: Target::Class(label) } = &example.content else { return false };
        let out: Vec<f64> = trainer.model().outputs(1, values).unwrap();
        out.iter().enumerate().all(|(class, z)| class == *label as usize || *z < out[*label as usize])
    };
    let accuracy = examples.iter().filter(right).count() as f64 / examples.len() as f64;
    assert!(accuracy > 0.93, "{accuracy}");
}
