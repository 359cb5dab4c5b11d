//! Fine-tuning from a trained model: what stays, what is pulled, what starts anew, and the link that the manifest keeps.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use std::path::Path;

use common::{distance, mlp, row, sequences, tiny_gpt2};
use etymon_data::{BatchLimits, Content, Example};
use etymon_model::Model;
use etymon_store::{Overwrite, RunFolder};
use etymon_tensor::{Backend, Cpu};
use etymon_train::{
    FinetuneConfig, Job, LearningRate, Length, Link, Optimizer, Outcome, Plan, Reduction, Tie, Trainer, losses, train,
};
use tempfile::tempdir;

type F64 = Cpu<f64>;

fn rows(classes: u32) -> Vec<Example> {
    let mut numbers = common::Numbers(3);
    let mut value = || numbers.below(200) as f32 / 100.0 - 1.0;
    (0..24).map(|i| row(i, vec![value(), value(), value()], i as u32 % classes)).collect()
}

fn adamw() -> Plan {
    let (length, learning_rate) = (Length::Epochs(4), LearningRate::constant(1e-2));
    Plan { batch_size: 8, length, learning_rate, weight_decay: 0.1, clip_norm: Some(0.5), ..Plan::default() }
}

fn sgd() -> Plan {
    Plan { optimizer: Optimizer::Sgd { momentum: 0.9 }, decay: etymon_train::Decay::All, ..adamw() }
}

fn frozen(pattern: &str) -> FinetuneConfig {
    FinetuneConfig { frozen: Some(pattern.to_owned()), ..FinetuneConfig::default() }
}

fn near(proximity: f64) -> FinetuneConfig {
    FinetuneConfig { proximity, ..FinetuneConfig::default() }
}

fn run<B: Backend>(
    finetune: &FinetuneConfig,
    pretrained: &Model<B>,
    train: Vec<Example>,
    plan: Plan,
) -> (Model<B>, Tie) {
    let (start, tie) = finetune.start(pretrained, 5).unwrap();
    let plan = Plan { tie: Some(tie.clone()), ..plan };
    let mut trainer = Trainer::new(start, train, Vec::new(), plan).unwrap();
    trainer.run(&mut ()).unwrap();
    (trainer.into_model(), tie)
}

/// The numbers of a parameter.
fn numbers<B: Backend>(model: &Model<B>, name: &str) -> Vec<f64> {
    let at = model.specs().iter().position(|s| s.name == name).unwrap();
    model.backend().download::<f64>(model.params().iter().nth(at).unwrap()).into_vec()
}

#[test]
fn frozen_parameters_do_not_move_by_a_bit_and_all_others_do() {
    for plan in [adamw(), sgd()] {
        let before = tiny_gpt2(Cpu::<f32>::new());
        let pattern = r"wte|wpe|h\.0\.attn|ln_";
        let (after, tie) = run(&frozen(pattern), &before, sequences(18, 20, 16), plan);
        assert!(tie.near.is_empty() && tie.frozen.len() + tie.free.len() == before.specs().len());
        let bits = |model, name: &str| numbers(model, name).into_iter().map(f64::to_bits).collect::<Vec<_>>();
        for name in &tie.frozen {
            assert_eq!(bits(&before, name), bits(&after, name), "{name} moved");
        }
        for name in &tie.free {
            assert_ne!(bits(&before, name), bits(&after, name), "{name} stayed");
        }
    }
}

#[test]
fn a_new_head_shares_everything_below_and_may_have_other_outputs() {
    let pretrained = mlp(F64::new(), &[3, 4, 2], "tanh");
    let finetune = FinetuneConfig { new_head: true, outputs: Some(5), ..frozen(r"layers\.0") };
    let (start, tie) = finetune.start(&pretrained, 9).unwrap();
    assert_eq!(numbers(&start, "layers.0.weight"), numbers(&pretrained, "layers.0.weight"));
    assert_eq!((numbers(&start, "layers.1.weight").len(), tie.anew.len()), (20, 2));

    let lm = tiny_gpt2(F64::new());
    let (start, tie) = FinetuneConfig { new_head: true, ..near(0.1) }.start(&lm, 9).unwrap();
    assert_eq!(tie.anew, ["lm_head.weight"]);
    assert_eq!(numbers(&start, "transformer.wte.weight"), numbers(&lm, "transformer.wte.weight"));
    assert!(distance(&numbers(&start, "lm_head.weight"), &numbers(&lm, "transformer.wte.weight")) > 0.01);
}

#[test]
fn a_step_goes_along_the_gradient_of_loss_and_pull() {
    let (pretrained, train, alpha) = (mlp(F64::new(), &[3, 4, 2], "tanh"), rows(2), 0.7);
    let plan = |steps| Plan {
        batch_size: train.len(),
        length: Length::Steps(steps),
        learning_rate: LearningRate::constant(0.1),
        optimizer: Optimizer::Sgd { momentum: 0.0 },
        ..Plan::default()
    };
    for reduction in [Reduction::TokenMean, Reduction::ExampleMean, Reduction::Sum] {
        let one = run(&near(alpha), &pretrained, train.clone(), Plan { reduction, ..plan(1) }).0;
        let two = run(&near(alpha), &pretrained, train.clone(), Plan { reduction, ..plan(2) }).0;
        let scale = if reduction == Reduction::Sum { 1.0 } else { 1.0 / train.len() as f64 };
        // Loss and pull at the first step's end, with one number moved.
        let objective = |index: usize, at: usize, by: f64| {
            let mut model = one.clone();
            let tensor = model.params_mut().iter_mut().nth(index).unwrap();
            let backend = F64::new();
            let (shape, mut values) = (backend.shape(tensor), backend.download::<f64>(tensor).into_vec());
            values[at] += by;
            *tensor = backend.upload(shape, &values).unwrap();
            let limits = BatchLimits { max_rows: 64, max_examples: usize::MAX };
            let loss: f64 = losses(&model, &train, limits).unwrap().iter().sum();
            let all = |m: &Model<F64>| common::numbers_of(m);
            let pull: f64 = all(&model).iter().zip(all(&pretrained)).map(|(x, y)| (x - y) * (x - y)).sum();
            scale * loss + alpha * pull
        };
        for (index, at) in [(0, 2), (1, 1), (2, 5), (3, 0)] {
            let name = &one.specs()[index].name;
            let step = numbers(&two, name)[at] - numbers(&one, name)[at];
            let slope = (objective(index, at, 1e-5) - objective(index, at, -1e-5)) / 2e-5;
            assert!((step + 0.1 * slope).abs() < 1e-8, "{name}: {step} against {slope}");
        }
    }
}

#[test]
fn a_firmer_pull_ends_nearer_to_pre_training() {
    let pretrained = mlp(F64::new(), &[3, 4, 2], "tanh");
    let start = common::numbers_of(&pretrained);
    let moved = |alpha| {
        let plan = Plan { weight_decay: 0.0, clip_norm: None, ..adamw() };
        let model = run(&near(alpha), &pretrained, rows(2), plan).0;
        start.iter().zip(common::numbers_of(&model)).map(|(x, y)| (x - y).powi(2)).sum::<f64>().sqrt()
    };
    let distances = [1e-3, 1.0, 30.0].map(moved);
    assert!(distances[0] > distances[1] && distances[1] > 3.0 * distances[2], "{distances:?}");
}

#[test]
fn what_ties_nothing_together_is_refused() {
    let model = mlp(F64::new(), &[3, 4, 2], "tanh");
    let problem = |finetune: FinetuneConfig| finetune.start(&model, 0).unwrap_err().to_string();
    assert!(problem(frozen("attention")).contains("matches no parameter; there are layers.0.weight"));
    assert!(problem(frozen("layers")).contains("nothing is trained"));
    assert!(problem(frozen("(")).contains("`frozen`"));
    let new_head = FinetuneConfig { new_head: true, ..frozen("layers.1") };
    assert!(problem(new_head).contains("matches `layers.1.weight`, which starts anew"));
    let pulled = FinetuneConfig { proximity: 1.0, new_head: true, ..frozen("layers.0") };
    assert!(problem(pulled).contains("pulls nothing"));
    let lm = FinetuneConfig { new_head: true, outputs: Some(3), ..FinetuneConfig::default() };
    assert!(lm.start(&tiny_gpt2(F64::new()), 0).unwrap_err().to_string().contains("as many outputs as words"));
}

fn write(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).unwrap();
}

fn data(folder: &Path) {
    let line = |e: &Example| match &e.content {
        Content::Features { values, target: etymon_data::Target::Class(label) } => {
            format!("{{\"features\": {values:?}, \"label\": {label}}}\n")
        }
        _ => String::new(),
    };
    write(folder, "two.jsonl", &rows(2).iter().map(line).collect::<String>());
    write(folder, "three.jsonl", &rows(3).iter().map(line).collect::<String>());
}

const PRETRAIN: &str =
    "out = \"pre\"\ndata = [\"two.jsonl\"]\nepochs = 2\n[architecture]\nmodel_type = \"mlp\"\nsizes = [3, 4, 2]\n";
const FINETUNE: &str = "out = \"ft\"\nmodel = \"pre/model\"\ndata = [\"three.jsonl\"]\nepochs = 2\nreduction = \"sum\"\n\
    [finetune]\nproximity = 0.5\nnew_head = true\noutputs = 3\n";

#[test]
fn the_manifest_links_the_stages_and_a_resumed_run_is_pulled_to_the_same_place() {
    let folder = tempdir().unwrap();
    data(folder.path());
    write(folder.path(), "pre.toml", PRETRAIN);
    write(folder.path(), "ft.toml", FINETUNE);
    let job = |name: &str| Job::read(&folder.path().join(name)).unwrap();
    train(F64::new(), &job("pre.toml"), Overwrite::Refuse, &mut ()).unwrap();
    train(F64::new(), &job("ft.toml"), Overwrite::Refuse, &mut ()).unwrap();
    let run = RunFolder::open_complete(&folder.path().join("ft"), "training").unwrap();
    let link = Link::of(run.manifest()).unwrap().unwrap();
    assert_eq!(link.tie.near, ["layers.0.weight", "layers.0.bias"]);
    assert_eq!(link.tie.anew, ["layers.1.weight", "layers.1.bias"]);
    // A batch of 16 counts its sum of losses: beside the mean loss of an example the pull is a sixteenth.
    assert!((link.rho - 1.0 / 16.0).abs() < 1e-12, "{}", link.rho);
    assert!(run.manifest().spec.inputs["model"].path.ends_with("pre/model"));
    let plain = RunFolder::open_complete(&folder.path().join("pre"), "training").unwrap();
    assert_eq!(Link::of(plain.manifest()).unwrap(), None);

    let stopped = job("ft.toml").with_out(&folder.path().join("stopped"));
    let outcome = train(F64::new(), &stopped, Overwrite::Refuse, &mut common::StopAfter(2)).unwrap();
    assert_eq!(outcome, Outcome::Stopped);
    train(F64::new(), &stopped, Overwrite::Refuse, &mut ()).unwrap();
    let model = |name: &str| etymon_model::load(F64::new(), &folder.path().join(name).join("model")).unwrap();
    assert!(common::same_bits(&model("ft"), &model("stopped")));
}

#[test]
fn settings_without_meaning_are_refused_by_line() {
    let folder = tempdir().unwrap();
    data(folder.path());
    let message = |old: &str, new: &str| {
        assert!(FINETUNE.contains(old));
        write(folder.path(), "ft.toml", &FINETUNE.replace(old, new));
        Job::read(&folder.path().join("ft.toml")).unwrap_err().to_string()
    };
    assert!(message("proximity = 0.5", "proximity = -1.0").contains("ft.toml:7: `proximity`: must be ≥ 0"));
    assert!(message("new_head = true\n", "").contains("ft.toml:8: `outputs`: are those of a new head"));
    assert!(message("model = \"pre/model\"\n", "").contains("`model`: is missing"));
    assert!(message("outputs = 3\n", "outputs = 3\n[lora]\nrank = 2\n").contains("give either this or `[lora]`"));
}
