//! Run folders: checkpoints, logs, and going on after an interruption.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use common::{StopAfter, mlp, numbers_of, row, same_bits, sequences, tiny_gpt2};
use etymon_model::Model;
use etymon_store::{Opened, Overwrite, RunFolder, RunSpec, RunStatus, read_losses, read_steps};
use etymon_tensor::{Backend, Cpu};
use etymon_train::{
    End, LearningRate, Length, Optimizer, Output, Plan, Schedule, State, TrainError, Trainer, checkpoints,
    latest_checkpoint,
};
use serde_json::Value;
use tempfile::tempdir;

fn plan(optimizer: Optimizer) -> Plan {
    Plan {
        batch_size: 5,
        length: Length::Epochs(3),
        optimizer,
        weight_decay: 0.1,
        clip_norm: Some(0.5),
        learning_rate: LearningRate { peak: 1e-2, schedule: Schedule::Cosine, warmup_steps: 3, min_ratio: 0.1 },
        watch_every: 2,
        checkpoint_every: Some(4),
        ..Plan::default()
    }
}

fn adamw() -> Plan {
    plan(Optimizer::AdamW { beta1: 0.9, beta2: 0.99, eps: 1e-8 })
}

fn trainer<B: Backend>(backend: B, plan: Plan) -> Trainer<B> {
    Trainer::new(tiny_gpt2(backend), sequences(18, 20, 16), sequences(2, 20, 16), plan).unwrap()
}

fn output(folder: &Path) -> Output {
    let spec =
        RunSpec { kind: "training".into(), config: Value::Null, seeds: BTreeMap::new(), inputs: BTreeMap::new() };
    match RunFolder::open_or_create(folder, spec, Overwrite::Refuse).unwrap() {
        Opened::Created(run) | Opened::Resumed(run) => Output::new(run, "r1", None),
        Opened::AlreadyComplete(_) => panic!("the run is complete"),
    }
}

/// Trains in a folder, interrupted after each of `stops` steps.
fn interrupted<B: Backend>(backend: B, plan: &Plan, folder: &Path, stops: &[u64]) -> Model<B> {
    for &stop in stops {
        let mut trainer = trainer(backend.clone(), plan.clone()).with_output(output(folder));
        if let Some(checkpoint) = latest_checkpoint(folder).unwrap() {
            trainer.resume(&checkpoint).unwrap();
        }
        assert_eq!(trainer.run(&mut StopAfter(stop)).unwrap(), End::Stopped);
    }
    let mut trainer = trainer(backend, plan.clone()).with_output(output(folder));
    trainer.resume(&latest_checkpoint(folder).unwrap().unwrap()).unwrap();
    assert_eq!(trainer.run(&mut ()).unwrap(), End::Finished);
    trainer.into_model()
}

fn resumes_to_the_bit<B: Backend>(backend: B, plan: &Plan) {
    let mut whole = trainer(backend.clone(), plan.clone());
    whole.run(&mut ()).unwrap();
    let folder = tempdir().unwrap();
    let parts = interrupted(backend, plan, folder.path(), &[1, 4, 2]);
    assert!(same_bits(whole.model(), &parts));
}

#[test]
fn a_resumed_run_of_adamw_ends_at_the_same_bits() {
    resumes_to_the_bit(Cpu::<f32>::new(), &adamw());
}

#[test]
fn a_resumed_run_of_sgd_ends_at_the_same_bits() {
    resumes_to_the_bit(Cpu::<f32>::new(), &plan(Optimizer::Sgd { momentum: 0.9 }));
}

#[test]
fn a_checkpoint_keeps_every_bit_of_f64() {
    resumes_to_the_bit(Cpu::<f64>::new(), &adamw());
}

#[test]
fn the_log_of_an_interrupted_run_is_that_of_a_whole_one() {
    let (whole, parts) = (tempdir().unwrap(), tempdir().unwrap());
    trainer(Cpu::<f32>::new(), adamw()).with_output(output(whole.path())).run(&mut ()).unwrap();
    interrupted(Cpu::<f32>::new(), &adamw(), parts.path(), &[3, 3]);
    let log = |folder: &Path| {
        let log = folder.join("log");
        (read_steps(&log).unwrap(), read_losses(&log).unwrap())
    };
    assert_eq!(log(whole.path()), log(parts.path()));
}

#[test]
fn the_log_holds_every_batch_and_every_measurement() {
    let folder = tempdir().unwrap();
    let mut trainer = trainer(Cpu::<f32>::new(), adamw()).with_output(output(folder.path()));
    trainer.run(&mut ()).unwrap();
    let steps = read_steps(&folder.path().join("log")).unwrap();
    assert_eq!(steps.iter().map(|s| s.step).collect::<Vec<_>>(), (0..12).collect::<Vec<_>>());
    for step in &steps {
        let ids: Vec<String> = trainer.batch(step.step).iter().map(|index| format!("e{index}")).collect();
        assert_eq!((&step.run[..], &step.train_ids), ("r1", &ids));
        assert_eq!(step.learning_rate, adamw().learning_rate.at(step.step, 12));
        assert!(step.train_loss > 0.0);
    }
    let losses = read_losses(&folder.path().join("log")).unwrap();
    let expected: Vec<(u64, &str)> = (0..=6).flat_map(|i| [(2 * i, "e0"), (2 * i, "e1")]).collect();
    assert_eq!(losses.iter().map(|l| (l.step, l.query_id.as_str())).collect::<Vec<_>>(), expected);
}

#[test]
fn a_run_folder_has_checkpoints_and_a_final_model() {
    let folder = tempdir().unwrap();
    let mut trainer = trainer(Cpu::<f32>::new(), adamw()).with_output(output(folder.path()));
    trainer.run(&mut ()).unwrap();
    let found = checkpoints(folder.path()).unwrap();
    assert_eq!(found.iter().map(|c| c.0).collect::<Vec<_>>(), [4, 8, 12]);
    let state = State::read(&found[1].1).unwrap();
    assert_eq!((state.step, state.updates, state.epoch, state.position), (8, 8, 2, 0));
    let last = etymon_model::load(Cpu::<f32>::new(), &folder.path().join("model")).unwrap();
    assert!(same_bits(&last, trainer.model()));
    let run = RunFolder::open_complete(folder.path(), "training").unwrap();
    assert_eq!(run.manifest().status, RunStatus::Complete);
    assert!(run.manifest().timings.contains_key("total"));
}

#[test]
fn a_half_written_checkpoint_does_not_count() {
    let folder = tempdir().unwrap();
    let mut trainer = trainer(Cpu::<f32>::new(), adamw()).with_output(output(folder.path()));
    trainer.run(&mut StopAfter(3)).unwrap();
    std::fs::create_dir(folder.path().join("checkpoint-000004.part")).unwrap();
    assert!(latest_checkpoint(folder.path()).unwrap().unwrap().ends_with("checkpoint-000003"));
}

#[test]
fn a_checkpoint_of_other_settings_is_refused_with_each_difference() {
    let folder = tempdir().unwrap();
    trainer(Cpu::<f32>::new(), adamw()).with_output(output(folder.path())).run(&mut StopAfter(4)).unwrap();
    let checkpoint = latest_checkpoint(folder.path()).unwrap().unwrap();
    let other = Plan { weight_decay: 0.2, seed: 9, ..adamw() };
    let error = trainer(Cpu::<f32>::new(), other).resume(&checkpoint).unwrap_err();
    let TrainError::OtherRun { differences, .. } = &error else { panic!("{error}") };
    let keys: Vec<&str> = differences.iter().map(|d| d.key.as_str()).collect();
    assert_eq!(keys, ["config.plan.seed", "config.plan.weight_decay"]);
    assert!(error.to_string().contains("config.plan.weight_decay: 0.1 there, 0.2 now"), "{error}");
    // Checkpoints more or less often is not another run.
    trainer(Cpu::<f32>::new(), Plan { checkpoint_every: None, ..adamw() }).resume(&checkpoint).unwrap();
}

#[test]
fn a_checkpoint_of_other_examples_or_another_model_is_refused() {
    let folder = tempdir().unwrap();
    let rows = |last: f32| vec![row(0, vec![1.0, 2.0], 0), row(1, vec![0.5, last], 1)];
    let plan = Plan { length: Length::Steps(4), ..adamw() };
    let start = |hidden, last| {
        Trainer::new(mlp(Cpu::<f32>::new(), &[2, hidden, 2], "relu"), rows(last), Vec::new(), plan.clone()).unwrap()
    };
    start(3, 1.0).with_output(output(folder.path())).run(&mut StopAfter(2)).unwrap();
    let checkpoint = latest_checkpoint(folder.path()).unwrap().unwrap();
    assert!(matches!(start(3, 1.5).resume(&checkpoint), Err(TrainError::OtherRun { .. })));
    assert!(matches!(start(4, 1.0).resume(&checkpoint), Err(TrainError::OtherModel { .. })));
    let mut same = start(3, 1.0);
    same.resume(&checkpoint).unwrap();
    assert_eq!(same.step(), 2);
    assert_eq!(numbers_of(same.model()).len(), 17);
}
