//! What a run depends on, and what it does not.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use common::{distance, numbers_of, row, same_bits, sequences, tiny_gpt2};
use etymon_data::{BatchLimits, ExampleIndex};
use etymon_model::Model;
use etymon_tensor::{Backend, Cpu};
use etymon_train::{
    End, LastBatch, LearningRate, Length, Observer, Optimizer, Order, Plan, Progress, Removal, Schedule, TrainError,
    Trainer, losses,
};

const LIMITS: BatchLimits = BatchLimits { max_rows: 64, max_examples: usize::MAX };

fn plan() -> Plan {
    Plan { batch_size: 4, length: Length::Epochs(2), learning_rate: LearningRate::constant(3e-3), ..Plan::default() }
}

fn trained<B: Backend>(backend: B, plan: Plan) -> Model<B> {
    let mut trainer = Trainer::new(tiny_gpt2(backend), sequences(18, 20, 16), Vec::new(), plan).unwrap();
    assert_eq!(trainer.run(&mut ()).unwrap(), End::Finished);
    trainer.into_model()
}

/// The batches of a whole run.
fn batches(plan: Plan) -> Vec<Vec<u64>> {
    let mut trainer = Trainer::new(tiny_gpt2(Cpu::<f32>::new()), sequences(18, 20, 16), Vec::new(), plan).unwrap();
    (0..trainer.n_steps()).map(|step| trainer.batch(step).iter().map(|i| i.0).collect()).collect()
}

fn indices(list: &[u64]) -> Vec<ExampleIndex> {
    list.iter().copied().map(ExampleIndex).collect()
}

#[test]
fn the_loss_of_a_tiny_gpt2_goes_down() {
    let examples = sequences(64, 20, 16);
    let model = tiny_gpt2(Cpu::<f32>::new());
    let before: f64 = losses(&model, &examples, LIMITS).unwrap().iter().sum();
    let plan = Plan { length: Length::Epochs(12), learning_rate: LearningRate::constant(1e-2), ..plan() };
    let mut trainer = Trainer::new(model, examples.clone(), Vec::new(), plan).unwrap();
    trainer.run(&mut ()).unwrap();
    let after: f64 = losses(trainer.model(), &examples, LIMITS).unwrap().iter().sum();
    assert!(after < 0.5 * before, "{before} → {after}");
}

#[test]
fn the_same_seed_gives_the_same_bits_and_another_seed_does_not() {
    let first = trained(Cpu::<f32>::new(), plan());
    assert!(same_bits(&first, &trained(Cpu::<f32>::new(), plan())));
    assert!(!same_bits(&first, &trained(Cpu::<f32>::new(), Plan { seed: 1, ..plan() })));
}

#[test]
fn micro_batches_change_nothing_but_rounding() {
    let whole = numbers_of(&trained(Cpu::<f64>::new(), plan()));
    for micro_batch_rows in [1, 17, 30] {
        let parts = trained(Cpu::<f64>::new(), Plan { micro_batch_rows, ..plan() });
        assert!(distance(&whole, &numbers_of(&parts)) < 1e-10);
    }
}

#[test]
fn losses_do_not_depend_on_their_batches() {
    let (model, examples) = (tiny_gpt2(Cpu::<f64>::new()), sequences(18, 20, 16));
    let one = BatchLimits { max_rows: 1, max_examples: 1 };
    let alone = losses(&model, &examples, one).unwrap();
    assert!(distance(&alone, &losses(&model, &examples, LIMITS).unwrap()) < 1e-12);
}

#[test]
fn every_epoch_visits_every_example_once_in_an_order_of_its_own() {
    let batches = batches(plan());
    assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>(), [4, 4, 4, 4, 2, 4, 4, 4, 4, 2]);
    let epochs: Vec<Vec<u64>> = batches.chunks(5).map(<[_]>::concat).collect();
    assert_ne!(epochs[0], epochs[1]);
    for mut epoch in epochs {
        epoch.sort_unstable();
        assert_eq!(epoch, (0..18).collect::<Vec<_>>());
    }
}

#[test]
fn the_last_batch_is_left_out_on_request() {
    assert!(batches(Plan { last_batch: LastBatch::Drop, ..plan() }).iter().all(|batch| batch.len() == 4));
}

#[test]
fn excluded_examples_leave_the_order_of_the_others_as_it_is() {
    let without = |list: Vec<u64>| list.into_iter().filter(|i| ![3, 11, 12].contains(i)).collect::<Vec<_>>();
    let all: Vec<Vec<u64>> = batches(plan());
    let excluded = indices(&[3, 11, 12]);
    let refilled = batches(Plan { excluded: excluded.clone(), ..plan() });
    assert_eq!(refilled.concat(), without(all.concat()));
    assert_eq!(refilled.iter().map(Vec::len).collect::<Vec<_>>(), [4, 4, 4, 3, 4, 4, 4, 3]);
    let shrunk = batches(Plan { excluded, removal: Removal::Shrink, ..plan() });
    assert_eq!(shrunk, all.into_iter().map(without).collect::<Vec<_>>());
}

#[test]
fn a_run_without_some_examples_is_a_run_on_the_others() {
    let examples = sequences(18, 20, 16);
    let excluded = indices(&[0, 5, 17]);
    let order = Order::Sequential;
    let others: Vec<_> = examples.iter().filter(|e| !excluded.contains(&e.index)).cloned().collect();
    let run = |train, plan| {
        let mut trainer = Trainer::new(tiny_gpt2(Cpu::<f32>::new()), train, Vec::new(), plan).unwrap();
        trainer.run(&mut ()).unwrap();
        trainer.into_model()
    };
    let less = run(examples, Plan { excluded, order: order.clone(), ..plan() });
    assert!(same_bits(&less, &run(others, Plan { order, ..plan() })));
}

#[test]
fn a_curriculum_is_followed_and_loses_what_is_excluded() {
    let order = Order::Curriculum([vec![1, 1, 2], vec![9], vec![0, 9]].map(|b| indices(&b)).to_vec());
    assert_eq!(
        batches(Plan { order: order.clone(), length: Length::Epochs(1), ..plan() }),
        [vec![1, 1, 2], vec![9], vec![0, 9]]
    );
    let excluded = indices(&[9]);
    let less = Plan { order, excluded, length: Length::Steps(4), ..plan() };
    assert_eq!(batches(less.clone()), [vec![1, 1, 2], vec![], vec![0], vec![1, 1, 2]]);
    trained(Cpu::<f32>::new(), less);
}

#[test]
fn lists_that_name_unknown_examples_are_refused() {
    let order = Order::Curriculum(vec![indices(&[0, 18])]);
    for bad in [Plan { order, ..plan() }, Plan { excluded: indices(&[18]), ..plan() }] {
        let error = Trainer::new(tiny_gpt2(Cpu::<f32>::new()), sequences(18, 20, 16), Vec::new(), bad).unwrap_err();
        assert!(matches!(error, TrainError::UnknownExample { index: ExampleIndex(18), .. }), "{error}");
    }
}

#[test]
fn a_clipped_step_of_sgd_has_the_length_of_the_limit() {
    let start = tiny_gpt2(Cpu::<f64>::new());
    let before = numbers_of(&start);
    let plan = Plan {
        length: Length::Steps(1),
        optimizer: Optimizer::Sgd { momentum: 0.0 },
        learning_rate: LearningRate::constant(1.0),
        clip_norm: Some(0.01),
        ..plan()
    };
    let mut trainer = Trainer::new(start, sequences(18, 20, 16), Vec::new(), plan).unwrap();
    trainer.run(&mut ()).unwrap();
    let squares = numbers_of(trainer.model()).iter().zip(&before).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
    assert!((squares.sqrt() - 0.01).abs() < 1e-12);
}

#[test]
fn a_run_that_diverges_says_at_which_step() {
    let plan = Plan {
        optimizer: Optimizer::Sgd { momentum: 0.0 },
        learning_rate: LearningRate::constant(1e30),
        length: Length::Steps(20),
        ..plan()
    };
    let mut trainer = Trainer::new(tiny_gpt2(Cpu::<f32>::new()), sequences(18, 20, 16), Vec::new(), plan).unwrap();
    let error = trainer.run(&mut ()).unwrap_err();
    assert!(matches!(error, TrainError::Diverged { step: 1.., .. }), "{error}");
    assert!(error.to_string().contains("lower `lr`"), "{error}");
}

#[test]
fn an_example_that_the_model_does_not_take_is_named() {
    let mut train = sequences(3, 20, 16);
    train.push(row(3, vec![1.0], 0));
    let error = Trainer::new(tiny_gpt2(Cpu::<f32>::new()), train, Vec::new(), plan()).unwrap_err();
    assert!(error.to_string().starts_with("train example `e3`: "), "{error}");
}

#[derive(Default)]
struct Seen {
    watched: Vec<(u64, Vec<f64>)>,
    steps: Vec<(u64, u64, usize)>,
    stop_at: Option<u64>,
}

impl Observer for Seen {
    fn watched(&mut self, step: u64, losses: &[f64]) {
        self.watched.push((step, losses.to_vec()));
    }

    fn step(&mut self, progress: &Progress<'_>) {
        self.steps.push((progress.step, progress.epoch, progress.batch.len()));
    }

    fn should_stop(&mut self) -> bool {
        self.stop_at.is_some_and(|at| at == self.steps.len() as u64)
    }
}

#[test]
fn watched_examples_are_measured_before_the_steps_and_at_the_end() {
    let watched = sequences(3, 20, 16);
    let start = tiny_gpt2(Cpu::<f32>::new());
    let before = losses(&start, &watched, LIMITS).unwrap();
    let plan = Plan { watch_every: 4, ..plan() };
    let mut trainer = Trainer::new(start, sequences(18, 20, 16), watched.clone(), plan).unwrap();
    let mut seen = Seen::default();
    trainer.run(&mut seen).unwrap();
    assert_eq!(seen.watched.iter().map(|w| w.0).collect::<Vec<_>>(), [0, 4, 8, 10]);
    assert_eq!(seen.watched[0].1, before);
    assert_eq!(seen.watched[3].1, losses(trainer.model(), &watched, LIMITS).unwrap());
    assert_eq!(seen.steps[4..6], [(4, 0, 2), (5, 1, 4)]);
}

#[test]
fn an_observer_stops_a_run_and_it_goes_on() {
    let mut trainer = Trainer::new(tiny_gpt2(Cpu::<f32>::new()), sequences(18, 20, 16), Vec::new(), plan()).unwrap();
    let mut seen = Seen { stop_at: Some(3), ..Seen::default() };
    assert_eq!(trainer.run(&mut seen).unwrap(), End::Stopped);
    assert_eq!(trainer.step(), 3);
    assert_eq!(trainer.run(&mut ()).unwrap(), End::Finished);
    assert!(same_bits(trainer.model(), &trained(Cpu::<f32>::new(), plan())));
}

#[test]
fn given_learning_rates_take_the_place_of_the_schedule_and_must_be_one_for_each_step() {
    let falling = LearningRate { peak: 1e-2, schedule: Schedule::Cosine, warmup_steps: 2, min_ratio: 0.1 };
    let by_schedule = Plan { learning_rate: falling, batch_size: 5, ..plan() };
    let constant = LearningRate::constant(1.0);
    let given = |rates: Vec<f64>| Plan { learning_rate: constant, learning_rates: Some(rates), ..by_schedule.clone() };
    let n_steps = batches(by_schedule.clone()).len();
    let rates: Vec<f64> = (0..n_steps as u64).map(|t| falling.at(t, n_steps as u64)).collect();
    assert!(same_bits(
        &trained(Cpu::<f32>::new(), by_schedule.clone()),
        &trained(Cpu::<f32>::new(), given(rates.clone()))
    ));
    let start = |rates| Trainer::new(tiny_gpt2(Cpu::<f32>::new()), sequences(20, 20, 16), Vec::new(), given(rates));
    assert!(matches!(start(vec![0.1]), Err(TrainError::Setting { key: "learning_rates", .. })));
    assert!(matches!(start(vec![f64::NAN; n_steps]), Err(TrainError::Setting { key: "learning_rates", .. })));
}
