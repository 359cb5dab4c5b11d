//! Training of low-rank adapters alone.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use common::{StopAfter, mlp, numbers_of, row, same_bits, sequences, tiny_gpt2};
use etymon_data::{Content, Example};
use etymon_model::{Model, load, save};
use etymon_store::{Opened, Overwrite, RunFolder, RunSpec, TensorFile};
use etymon_tensor::{Backend, Cpu};
use etymon_train::{End, Job, Length, Optimizer, Outcome, Output, Plan, Trainer, latest_checkpoint, losses, train};
use tempfile::{TempDir, tempdir};

fn plan(optimizer: Optimizer) -> Plan {
    Plan {
        batch_size: 5,
        length: Length::Epochs(3),
        optimizer,
        weight_decay: 0.1,
        clip_norm: Some(0.5),
        ..Plan::default()
    }
}

const ADAMW: Optimizer = Optimizer::AdamW { beta1: 0.9, beta2: 0.99, eps: 1e-8 };

fn adapted<B: Backend>(backend: B) -> Model<B> {
    tiny_gpt2(backend).add_lora((2, 4.0), Some("c_attn|mlp.c_proj"), Path::new(""), 6).unwrap()
}

fn trainer<B: Backend>(backend: B, plan: Plan) -> Trainer<B> {
    Trainer::new(adapted(backend), sequences(18, 20, 16), Vec::new(), plan).unwrap()
}

fn output(folder: &Path) -> Output {
    let (config, seeds, inputs) = (serde_json::Value::Null, BTreeMap::new(), BTreeMap::new());
    let spec = RunSpec { kind: "training".into(), config, seeds, inputs };
    match RunFolder::open_or_create(folder, spec, Overwrite::Refuse).unwrap() {
        Opened::Created(run) | Opened::Resumed(run) => Output::new(run, "r1", None),
        Opened::AlreadyComplete(_) => panic!("the run is complete"),
    }
}

#[test]
fn adapters_are_trained_and_the_base_keeps_every_bit() {
    for optimizer in [ADAMW, Optimizer::Sgd { momentum: 0.9 }] {
        let mut trainer = trainer(Cpu::<f32>::new(), plan(optimizer));
        trainer.run(&mut ()).unwrap();
        let (before, after) = (adapted(Cpu::<f32>::new()), trainer.into_model());
        assert!(same_bits(&before.base().unwrap(), &after.base().unwrap()));
        let n_base = numbers_of(&before.base().unwrap()).len();
        let [x, y] = [&before, &after].map(|m| numbers_of(m)[n_base..].to_vec());
        assert!(x.iter().zip(&y).filter(|(x, y)| x != y).count() > x.len() * 9 / 10, "{optimizer:?}");
    }
}

#[test]
fn an_update_of_adapters_is_a_step_along_their_gradient_alone() {
    // SGD without momentum or decay: θ' = θ − lr ∇; ∇ of A and B by the chain rule from that of the merged weight.
    let backend = Cpu::<f64>::new();
    let base = mlp(backend, &[2, 3, 2], "tanh");
    let mut model = base.add_lora((1, 3.0), Some("layers.1"), Path::new(""), 2).unwrap();
    let b = model.params_mut().iter_mut().last().unwrap();
    *b = backend.upload(backend.shape(b), &[0.5, -0.25]).unwrap();
    let rows = vec![row(0, vec![1.0, 2.0], 0), row(1, vec![0.5, -1.0], 1)];
    let learning_rate = etymon_train::LearningRate::constant(0.1);
    let optimizer = Optimizer::Sgd { momentum: 0.0 };
    let plan = Plan {
        optimizer,
        learning_rate,
        length: Length::Steps(1),
        reduction: etymon_train::Reduction::Sum,
        ..Plan::default()
    };
    let limits = etymon_data::BatchLimits { max_rows: 100, max_examples: 100 };
    let loss_of =
        |model: &Model<Cpu<f64>>| losses(&model.merged().unwrap(), &rows, limits).unwrap().iter().sum::<f64>();
    let mut trainer = Trainer::new(model.clone(), rows.clone(), Vec::new(), plan).unwrap();
    trainer.run(&mut ()).unwrap();
    let (start, end) = (numbers_of(&model), numbers_of(trainer.model()));
    let n = start.len();
    assert_eq!(start[..n - 5], end[..n - 5]);
    for at in n - 5..n {
        let moved = |step: f64| {
            let mut model = model.clone();
            let (tensor, i) = if at < n - 2 { (1, at - (n - 5)) } else { (0, at - (n - 2)) };
            let count = model.params().len();
            let tensor = model.params_mut().iter_mut().nth(count - 1 - tensor).unwrap();
            let mut numbers: Vec<f64> = backend.download(tensor).into_vec();
            numbers[i] += step;
            *tensor = backend.upload(backend.shape(tensor), &numbers).unwrap();
            loss_of(&model)
        };
        let gradient = (moved(1e-5) - moved(-1e-5)) / 2e-5;
        assert!((start[at] - 0.1 * gradient - end[at]).abs() < 1e-9, "{at}: {gradient}, {}", end[at] - start[at]);
    }
}

fn resumes_to_the_bit<B: Backend>(backend: B, plan: &Plan) {
    let mut whole = trainer(backend.clone(), plan.clone());
    whole.run(&mut ()).unwrap();
    let folder = tempdir().unwrap();
    for stop in [1, 4] {
        let mut part = trainer(backend.clone(), plan.clone()).with_output(output(folder.path()));
        if let Some(checkpoint) = latest_checkpoint(folder.path()).unwrap() {
            part.resume(&checkpoint).unwrap();
        }
        assert_eq!(part.run(&mut StopAfter(stop)).unwrap(), End::Stopped);
    }
    let checkpoint = latest_checkpoint(folder.path()).unwrap().unwrap();
    assert!(checkpoint.join("adapter_model.safetensors").exists() && !checkpoint.join("model.safetensors").exists());
    let moments = TensorFile::open(&checkpoint.join("optimizer.safetensors")).unwrap();
    assert!(moments.names().all(|name| name.contains(".lora_")), "no moments of the base");
    let mut rest = trainer(backend, plan.clone()).with_output(output(folder.path()));
    rest.resume(&checkpoint).unwrap();
    assert_eq!((rest.step(), rest.run(&mut ()).unwrap()), (5, End::Finished));
    assert!(same_bits(whole.model(), rest.model()));
}

#[test]
fn a_resumed_training_of_adapters_ends_at_the_same_bits() {
    resumes_to_the_bit(Cpu::<f32>::new(), &plan(ADAMW));
    resumes_to_the_bit(Cpu::<f32>::new(), &plan(Optimizer::Sgd { momentum: 0.9 }));
    resumes_to_the_bit(Cpu::<f64>::new(), &plan(ADAMW));
}

/// A base model in `base/`, sequences in `train.jsonl`, and a configuration with the given `[lora]`.
fn folder(lora: &str) -> TempDir {
    let folder = tempdir().unwrap();
    std::fs::create_dir(folder.path().join("base")).unwrap();
    save(&tiny_gpt2(Cpu::<f32>::new()), &folder.path().join("base"), None).unwrap();
    let line = |e: Example| match e.content {
        Content::Tokens { ids, .. } => format!("{{\"input_ids\": {ids:?}}}\n"),
        Content::Features { .. } => String::new(),
    };
    let rows: String = sequences(12, 20, 16).into_iter().map(line).collect();
    std::fs::write(folder.path().join("train.jsonl"), rows).unwrap();
    let config = format!("out = \"out\"\nmodel = \"base\"\ndata = [\"train.jsonl\"]\nlr = 0.05\n\n[lora]\n{lora}");
    std::fs::write(folder.path().join("train.toml"), config).unwrap();
    folder
}

fn job(folder: &TempDir) -> Result<Job, etymon_train::TrainError> {
    Job::read(&folder.path().join("train.toml"))
}

#[test]
fn a_job_leaves_a_peft_folder_and_on_demand_the_merged_model() {
    let folder = folder("rank = 3\ntargets = 'c_attn'\nmerge = true\n");
    assert_eq!(
        train(Cpu::<f32>::new(), &job(&folder).unwrap(), Overwrite::Refuse, &mut ()).unwrap(),
        Outcome::Finished
    );
    let at = |name: &str| folder.path().join("out").join(name);
    let model = load(Cpu::<f32>::new(), &at("model")).unwrap();
    let lora = model.lora().unwrap();
    assert_eq!((lora.rank, lora.alpha, &lora.layers[..]), (3, 16.0, &["transformer.h.0.attn.c_attn".to_owned()][..]));
    let logits = |model: &Model<Cpu<f32>>| model.logits::<f64>(&[1, 2, 3]).unwrap();
    let merged = load(Cpu::<f32>::new(), &at("merged")).unwrap();
    assert!(merged.lora().is_none());
    assert!(common::distance(&logits(&model), &logits(&merged)) < 1e-5);
    assert!(common::distance(&logits(&model), &logits(&model.base().unwrap())) > 1e-3);
    // The result is a model to train on.
    let more = "out = \"more\"\nmodel = \"out/model\"\ndata = [\"train.jsonl\"]\n";
    std::fs::write(folder.path().join("train.toml"), more).unwrap();
    train(Cpu::<f32>::new(), &job(&folder).unwrap(), Overwrite::Refuse, &mut ()).unwrap();
    let more = load(Cpu::<f32>::new(), &folder.path().join("more/model")).unwrap();
    assert!(same_bits(&more.base().unwrap(), &model.base().unwrap()) && !same_bits(&more, &model));
}

#[test]
fn settings_of_lora_that_make_no_sense_are_refused_by_file_and_key() {
    for (lora, problem) in [
        ("rank = 0", "train.toml:7: `rank`: must be at least 1"),
        ("alpha = -1", "train.toml:7: `alpha`: must be > 0"),
        ("dropout = 0.1", "train.toml:7: `dropout`: is not supported"),
        ("ranks = 3", "train.toml:7: `ranks`: unknown field"),
    ] {
        let text = job(&folder(lora)).map(|_| ()).unwrap_err().to_string();
        assert!(text.contains(problem), "{text}");
    }
    for (lora, problem) in [
        ("targets = 'q_proj'", "train.toml: `targets`: layer pattern `q_proj` matches no layer"),
        ("targets = '('", "train.toml: `targets`: layer pattern `(`"),
        ("targets = 'lm_head'", "train.toml: `targets`: `lm_head` shares its weight"),
    ] {
        let folder = folder(lora);
        let text =
            train(Cpu::<f32>::new(), &job(&folder).unwrap(), Overwrite::Refuse, &mut ()).unwrap_err().to_string();
        assert!(text.contains(problem), "{text}");
        assert!(!folder.path().join("out").exists(), "nothing is written");
    }
    let folder = folder("");
    let text = std::fs::read_to_string(folder.path().join("train.toml")).unwrap();
    let new = text.replace("model = \"base\"\n", "") + "[architecture]\nmodel_type = \"gpt2\"\n";
    std::fs::write(folder.path().join("train.toml"), new).unwrap();
    let text = job(&folder).map(|_| ()).unwrap_err().to_string();
    assert!(text.contains("`lora`: adapters need a trained `model`"), "{text}");
}
