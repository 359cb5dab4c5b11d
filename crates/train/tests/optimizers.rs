//! Whole runs on a tiny MLP against a plain loop and against PyTorch.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use common::{distance, mlp, numbers_of, row};
use etymon_data::Example;
use etymon_model::Model;
use etymon_tensor::Cpu;
use etymon_train::{
    Decay, LearningRate, Length, Observer, Optimizer, Order, Plan, Progress, Reduction, Schedule, Trainer,
};
use serde_json::Value;

const ADAMW: Optimizer = Optimizer::AdamW { beta1: 0.8, beta2: 0.95, eps: 1e-8 };
const SGD: Optimizer = Optimizer::Sgd { momentum: 0.9 };

struct Golden {
    json: Value,
    train: Vec<Example>,
}

/// Losses of the batches.
#[derive(Default)]
struct Losses(Vec<f64>);

impl Observer for Losses {
    fn step(&mut self, progress: &Progress<'_>) {
        self.0.push(progress.loss);
    }
}

fn floats(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

fn nested(value: &Value) -> Vec<Vec<f64>> {
    value.as_array().unwrap().iter().map(floats).collect()
}

impl Golden {
    fn read() -> Self {
        let json: Value = serde_json::from_str(include_str!("golden/torch.json")).unwrap();
        let rows = nested(&json["features"]).into_iter().zip(floats(&json["labels"]));
        let row =
            |(i, (x, y)): (usize, (Vec<f64>, f64))| row(i as u64, x.iter().map(|&x| x as f32).collect(), y as u32);
        let train = rows.enumerate().map(row).collect();
        Self { json, train }
    }

    fn model(&self) -> Model<Cpu<f64>> {
        let mut model = mlp(Cpu::<f64>::new(), &[3, 5, 4], "tanh");
        let specs = model.specs().to_vec();
        let backend = *model.backend();
        for ((tensor, spec), init) in model.params_mut().iter_mut().zip(&specs).zip(nested(&self.json["init"])) {
            *tensor = etymon_tensor::Backend::upload(&backend, spec.shape, &init).unwrap();
        }
        model
    }

    fn plan(&self) -> Plan {
        Plan { order: Order::Sequential, batch_size: 4, length: Length::Epochs(3), ..Plan::default() }
    }

    fn compare(&self, plan: Plan, name: &str) {
        let mut trainer = Trainer::new(self.model(), self.train.clone(), Vec::new(), plan).unwrap();
        let mut losses = Losses::default();
        trainer.run(&mut losses).unwrap();
        let expected = &self.json[name];
        assert!(distance(&losses.0, &floats(&expected["losses"])) < 1e-12);
        assert!(distance(&numbers_of(trainer.model()), &nested(&expected["final"]).concat()) < 1e-12);
    }
}

#[test]
fn adamw_trains_as_pytorch_does() {
    let golden = Golden::read();
    let learning_rate = LearningRate::constant(0.02);
    golden.compare(Plan { optimizer: ADAMW, weight_decay: 0.1, learning_rate, ..golden.plan() }, "adamw");
}

#[test]
fn sgd_trains_as_pytorch_does() {
    let golden = Golden::read();
    let learning_rate = LearningRate::constant(0.1);
    let plan = Plan { optimizer: SGD, weight_decay: 0.01, decay: Decay::All, learning_rate, ..golden.plan() };
    golden.compare(plan, "sgd");
}

/// Parameters of the MLP 3 → 5 → 4, in the order W₁ b₁ W₂ b₂.
type Net = [Vec<f64>; 4];

/// Adds the gradient of −log p(label) of one row.
fn add_gradient_ref(net: &Net, x: &[f64], label: usize, grad: &mut Net) {
    let h: Vec<f64> =
        (0..5).map(|i| ((0..3).map(|j| net[0][i * 3 + j] * x[j]).sum::<f64>() + net[1][i]).tanh()).collect();
    let z: Vec<f64> = (0..4).map(|i| (0..5).map(|j| net[2][i * 5 + j] * h[j]).sum::<f64>() + net[3][i]).collect();
    let total: f64 = z.iter().map(|z| z.exp()).sum();
    let dz: Vec<f64> = (0..4).map(|i| z[i].exp() / total - f64::from(u8::from(i == label))).collect();
    for i in 0..4 {
        (0..5).for_each(|j| grad[2][i * 5 + j] += dz[i] * h[j]);
        grad[3][i] += dz[i];
    }
    for i in 0..5 {
        let dh: f64 = (0..4).map(|k| dz[k] * net[2][k * 5 + i]).sum();
        let ds = dh * (1.0 - h[i] * h[i]);
        (0..3).for_each(|j| grad[0][i * 3 + j] += ds * x[j]);
        grad[1][i] += ds;
    }
}

/// Everything by plain loops: schedule, reduction, clipping, update.
fn train_ref(golden: &Golden, plan: &Plan) -> Vec<f64> {
    let (xs, ys) = (nested(&golden.json["features"]), floats(&golden.json["labels"]));
    let mut net: Net = nested(&golden.json["init"]).try_into().unwrap();
    let zeros = || net.clone().map(|p| vec![0.0; p.len()]);
    let (mut m, mut v) = (zeros(), zeros());
    let zero = zeros();
    for step in 0..9usize {
        let batch: Vec<usize> = (0..10).skip(step % 3 * 4).take(4).collect();
        let mut grad = zero.clone();
        batch.iter().for_each(|&i| add_gradient_ref(&net, &xs[i], ys[i] as usize, &mut grad));
        let mut scale = if plan.reduction == Reduction::Sum { 1.0 } else { 1.0 / batch.len() as f64 };
        let norm = grad.iter().flatten().map(|g| g * g).sum::<f64>().sqrt() * scale;
        scale *= plan.clip_norm.map_or(1.0, |limit| (limit / norm).min(1.0));
        let lr = if step < 2 {
            0.05 * (step + 1) as f64 / 2.0
        } else {
            0.05 * (0.1 + 0.9 * 0.5 * (1.0 + (std::f64::consts::PI * (step - 2) as f64 / 7.0).cos()))
        };
        for p in 0..4 {
            let decay = if plan.decay == Decay::All || p % 2 == 0 { plan.weight_decay } else { 0.0 };
            for i in 0..net[p].len() {
                let g = grad[p][i] * scale;
                if let Optimizer::Sgd { momentum } = plan.optimizer {
                    v[p][i] = momentum * v[p][i] + (g + decay * net[p][i]);
                    net[p][i] -= lr * v[p][i];
                } else {
                    m[p][i] = 0.8 * m[p][i] + 0.2 * g;
                    v[p][i] = 0.95 * v[p][i] + 0.05 * g * g;
                    let t = step as i32 + 1;
                    let (m, v) = (m[p][i] / (1.0 - 0.8f64.powi(t)), v[p][i] / (1.0 - 0.95f64.powi(t)));
                    net[p][i] = net[p][i] * (1.0 - lr * decay) - lr * m / (v.sqrt() + 1e-8);
                }
            }
        }
    }
    net.concat()
}

#[test]
fn every_choice_of_a_plan_agrees_with_the_plain_loop() {
    let golden = Golden::read();
    let learning_rate = LearningRate { peak: 0.05, schedule: Schedule::Cosine, warmup_steps: 2, min_ratio: 0.1 };
    for optimizer in [ADAMW, SGD] {
        for (decay, clip_norm, reduction) in [
            (Decay::All, None, Reduction::TokenMean),
            (Decay::Matrices, Some(0.3), Reduction::ExampleMean),
            (Decay::All, Some(1.0), Reduction::Sum),
        ] {
            let (weight_decay, base) = (0.05, golden.plan());
            let plan = Plan { optimizer, weight_decay, decay, clip_norm, reduction, learning_rate, ..base };
            let mut trainer = Trainer::new(golden.model(), golden.train.clone(), Vec::new(), plan.clone()).unwrap();
            trainer.run(&mut ()).unwrap();
            let apart = distance(&numbers_of(trainer.model()), &train_ref(&golden, &plan));
            assert!(apart < 1e-12, "{plan:?}: {apart:e}");
        }
    }
}
