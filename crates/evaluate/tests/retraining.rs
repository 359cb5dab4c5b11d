//! Worlds in parallel, remembered by content.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::path::Path;

use etymon_data::{BatchLimits, Content, Example, ExampleIndex, Target};
use etymon_evaluate::{Finetuning, Observed, Probe, Retraining, Start, World};
use etymon_model::{Measurement, Model, Objective};
use etymon_tensor::Cpu;
use etymon_train::{FinetuneConfig, Length, Plan, Trainer, Workers, evaluate};
use serde_json::json;

const ONE: Workers = Workers { runs: 1, threads: 2 };

fn rows(n: u64) -> Vec<Example> {
    let row = |index: u64| {
        let values = (0..4).map(|j| ((index * 7 + j * 3) % 11) as f32 / 11.0).collect();
        let content = Content::Features { values, target: Target::Class((index % 3) as u32) };
        let (id, text, metadata) = (format!("r{index}"), String::new(), <_>::default());
        Example { index: ExampleIndex(index), id, content, text, metadata }
    };
    (0..n).map(row).collect()
}

fn model() -> Model<Cpu<f32>> {
    let json = json!({"model_type": "mlp", "sizes": [4, 8, 3], "activation": "tanh", "task": "classification"});
    Model::new(Cpu::new(), json, 0).unwrap()
}

fn plan() -> Plan {
    Plan { length: Length::Epochs(3), batch_size: 5, ..Plan::default() }
}

fn f() -> Observed {
    Observed::Value(Objective::Measurement(Measurement::LogLikelihood))
}

fn retraining(plan: Plan, folder: Option<&Path>) -> Retraining<Cpu<f32>> {
    let probe = Probe { name: "measurement", examples: rows(6), observed: f() };
    Retraining::new(Start::New(model()), rows(30), plan, None, vec![probe], folder).unwrap()
}

fn worlds() -> Vec<World> {
    (0..8).map(|i| World::without(vec![ExampleIndex(i), ExampleIndex(29 - i)], i % 2)).collect()
}

#[test]
fn a_world_is_the_run_of_the_trainer_to_the_bit() {
    let world = World::without(vec![ExampleIndex(3)], 5);
    let found = retraining(plan(), None).run(&[world], ONE, &|_| ()).unwrap();
    let start = Model::new(Cpu::<f32>::new(), model().json().clone(), 5).unwrap();
    let plan = Plan { seed: 5, excluded: vec![ExampleIndex(3)], ..plan() };
    let mut trainer = Trainer::new(start, rows(30), Vec::new(), plan).unwrap();
    trainer.run(&mut ()).unwrap();
    let limits = BatchLimits { max_rows: 4096, max_examples: usize::MAX };
    let objective = Objective::Measurement(Measurement::LogLikelihood);
    assert_eq!(found.values[0][0], evaluate(trainer.model(), &rows(6), objective, limits).unwrap());
}

#[test]
fn worlds_in_parallel_are_worlds_one_after_the_other_to_the_bit() {
    let retraining = retraining(plan(), None);
    let one = retraining.run(&worlds(), ONE, &|_| ()).unwrap();
    let many = retraining.run(&worlds(), Workers { runs: 4, threads: 1 }, &|_| ()).unwrap();
    assert_eq!(one.values, many.values);
    assert!(one.values[0] != one.values[1], "worlds differ");
}

#[test]
fn what_was_trained_is_read_and_what_is_missing_is_trained() {
    let folder = tempfile::tempdir().unwrap();
    let retraining = retraining(plan(), Some(folder.path()));
    let first = retraining.run(&worlds(), ONE, &|_| ()).unwrap();
    assert_eq!((first.n_trained, first.n_read), (8, 0));
    let again = retraining.run(&worlds(), ONE, &|_| ()).unwrap();
    assert_eq!((again.n_trained, again.n_read), (0, 8));
    assert_eq!(first.values, again.values);
    // As after a kill: some files are not there.
    let files = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
    files.take(3).for_each(|file| std::fs::remove_file(file).unwrap());
    assert_eq!(retraining.n_missing(&worlds()), 3);
    let resumed = retraining.run(&worlds(), ONE, &|_| ()).unwrap();
    assert_eq!((resumed.n_trained, resumed.n_read), (3, 5));
    assert_eq!(first.values, resumed.values);
}

#[test]
fn another_setting_trains_again() {
    let folder = tempfile::tempdir().unwrap();
    retraining(plan(), Some(folder.path())).run(&worlds(), ONE, &|_| ()).unwrap();
    let missing = |plan: Plan| retraining(plan, Some(folder.path())).n_missing(&worlds());
    assert_eq!(missing(Plan { watch_every: 7, ..plan() }), 0);
    assert_eq!(missing(Plan { batch_size: 6, ..plan() }), 8);
    assert_eq!(missing(Plan { weight_decay: 0.1, ..plan() }), 8);
    assert_eq!(missing(Plan { excluded: vec![ExampleIndex(20)], ..plan() }), 8);
    let probe = Probe { name: "measurement", examples: rows(7), observed: f() };
    let other = Retraining::new(Start::New(model()), rows(30), plan(), None, vec![probe], Some(folder.path())).unwrap();
    assert_eq!(other.n_missing(&worlds()), 8);
}

#[test]
fn a_world_of_two_stages_is_two_runs_of_the_trainer_and_its_own_file() {
    let finetune = FinetuneConfig { frozen: Some("layers.0".to_owned()), new_head: true, ..FinetuneConfig::default() };
    let second = || Plan { seed: 40, length: Length::Epochs(2), batch_size: 4, ..Plan::default() };
    let then = || Finetuning { finetune: finetune.clone(), train: rows(12), plan: second() };
    let folder = tempfile::tempdir().unwrap();
    let retraining = |then| {
        let probe = Probe { name: "measurement", examples: rows(6), observed: f() };
        Retraining::new(Start::New(model()), rows(30), plan(), then, vec![probe], Some(folder.path())).unwrap()
    };
    let world = World::without(vec![ExampleIndex(3)], 5);
    let found = retraining(Some(then())).run(std::slice::from_ref(&world), ONE, &|_| ()).unwrap();

    let start = Model::new(Cpu::<f32>::new(), model().json().clone(), 5).unwrap();
    let first = Plan { seed: 5, excluded: vec![ExampleIndex(3)], ..plan() };
    let mut trainer = Trainer::new(start, rows(30), Vec::new(), first).unwrap();
    trainer.run(&mut ()).unwrap();
    let (start, tie) = finetune.start(trainer.model(), 45).unwrap();
    let mut trainer = Trainer::new(start, rows(12), Vec::new(), Plan { seed: 45, tie: Some(tie), ..second() }).unwrap();
    trainer.run(&mut ()).unwrap();
    let limits = BatchLimits { max_rows: 4096, max_examples: usize::MAX };
    let objective = Objective::Measurement(Measurement::LogLikelihood);
    assert_eq!(found.values[0][0], evaluate(trainer.model(), &rows(6), objective, limits).unwrap());

    // Another second stage is another world; the same one is read.
    let firmer = Finetuning { finetune: FinetuneConfig { proximity: 0.1, ..finetune.clone() }, ..then() };
    let firmer = Finetuning { finetune: FinetuneConfig { frozen: None, ..firmer.finetune }, ..firmer };
    assert_eq!(retraining(Some(firmer)).n_missing(std::slice::from_ref(&world)), 1);
    assert_eq!(retraining(None).n_missing(std::slice::from_ref(&world)), 1);
    assert_eq!(retraining(Some(then())).n_missing(std::slice::from_ref(&world)), 0);
}
