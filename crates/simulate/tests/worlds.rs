//! Synthetic worlds: runs made from known A and B, which the fit must find again.
#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of tests are tests.

use etymon_simulate::{Curriculum, FitOptions, Kind, Recorded, Run, Simulator, Unseen, fit, judge};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const N: usize = 12;
const Q: usize = 5;
const BATCH: usize = 3;

/// Losses follow L ← L (1 + Σ A) + Σ B + noise; in the world of the momentum kind 0.8 of each change goes on.
struct World {
    kind: Kind,
    a: Vec<[f64; Q]>,
    b: Vec<[f64; Q]>,
    noise: f64,
}

impl World {
    fn new(kind: Kind, noise: f64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let mut effects = |low: f64, high: f64, has: bool| -> Vec<[f64; Q]> {
            let mut one = || if has { rng.random_range(low..high) } else { 0.0 };
            (0..N).map(|_| std::array::from_fn(|_| one())).collect()
        };
        let a = effects(-0.05, 0.01, kind != Kind::Additive);
        let b = effects(-0.02, 0.04, kind != Kind::Multiplicative);
        Self { kind, a, b, noise }
    }

    fn run(&self, seed: u64, n_steps: usize, every: usize) -> Run {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let batches: Vec<Vec<usize>> =
            (0..n_steps).map(|_| (0..BATCH).map(|_| rng.random_range(0..N)).collect()).collect();
        let mut losses: Vec<f64> = (0..Q).map(|_| rng.random_range(1.0..3.0)).collect();
        let (mut measured, mut now, mut change) = (vec![0], losses.clone(), [0.0; Q]);
        let memory = if self.kind == Kind::Momentum { 0.8 } else { 0.0 };
        for (t, batches) in batches.chunks(every).enumerate() {
            for q in 0..Q {
                let sum = |x: &[[f64; Q]]| batches.iter().flatten().map(|&i| x[i][q]).sum::<f64>();
                let noise: f64 = (0..12).map(|_| rng.random::<f64>() - 0.5).sum();
                change[q] = memory * change[q] + now[q] * sum(&self.a) + sum(&self.b) + self.noise * noise;
                now[q] += change[q];
            }
            measured.push(((t + 1) * every).min(n_steps) as u64);
            losses.extend(&now);
        }
        let curriculum = Curriculum { batches, learning_rates: vec![1.0; n_steps] };
        Run { name: format!("run-{seed}"), curriculum, measured, losses }
    }

    fn recorded(&self, seeds: std::ops::Range<u64>, n_steps: usize, every: usize) -> Recorded {
        let ids = |prefix: &str, n| (0..n).map(|i| format!("{prefix}{i}")).collect();
        let runs = seeds.map(|seed| self.run(seed, n_steps, every)).collect();
        Recorded { train_ids: ids("t", N), query_ids: ids("q", Q), runs }
    }
}

fn fitted(recorded: &Recorded, options: FitOptions) -> Simulator {
    fit(recorded, &options, &|_, _| {}).unwrap().simulator
}

fn largest(x: impl Iterator<Item = f64>) -> f64 {
    x.fold(0.0, |m, x| m.max(x.abs()))
}

#[test]
fn each_kind_finds_the_parameters_of_its_own_world_and_simulates_its_runs_exactly() {
    for kind in Kind::FITTED {
        let world = World::new(kind, 0.0);
        let options = FitOptions { lambda: Some(1e-11), draws: 0, ..FitOptions::new(kind) };
        let simulator = fitted(&world.recorded(0..20, 30, 1), options);
        assert_eq!(simulator.memory(), if kind == Kind::Momentum { 0.8 } else { 0.0 });
        for i in 0..N {
            let off = |found: Vec<f64>, real: [f64; Q]| largest(found.iter().zip(real).map(|(x, y)| x - y));
            assert!(off(simulator.a(i), world.a[i]) < 1e-8, "{kind:?}");
            assert!(off(simulator.b(i), world.b[i]) < 1e-8, "{kind:?}");
        }
        for run in &world.recorded(100..104, 30, 1).runs {
            let rolled = simulator.roll_out(&run.curriculum, run.first_losses(Q)).unwrap();
            assert!(largest(rolled.losses.iter().zip(&run.losses).map(|(x, y)| x - y)) < 1e-9, "{kind:?}");
        }
    }
}

#[test]
fn a_world_of_one_kind_is_not_simulated_by_another() {
    let world = World::new(Kind::Linear, 0.0);
    let (train, test) = (world.recorded(0..20, 30, 1), world.recorded(100..104, 30, 1));
    let mse = |kind| {
        let simulator = fitted(&train, FitOptions { draws: 0, ..FitOptions::new(kind) });
        let judged = judge(&simulator, &test).unwrap();
        judged.iter().flat_map(|j| &j.mse).sum::<f64>() / (Q * judged.len()) as f64
    };
    let linear = mse(Kind::Linear);
    assert!(linear < 1e-5, "{linear}");
    assert!(mse(Kind::Multiplicative) > 100.0 * linear && mse(Kind::Additive) > 100.0 * linear);
}

#[test]
fn losses_measured_every_k_steps_are_steps_of_k_batches() {
    let world = World::new(Kind::Linear, 0.0);
    let options = FitOptions { lambda: Some(1e-11), draws: 0, ..FitOptions::new(Kind::Linear) };
    // 31 steps: the last interval is shorter.
    let simulator = fitted(&world.recorded(0..30, 31, 4), options);
    for run in &world.recorded(100..103, 31, 4).runs {
        let rolled = simulator.roll_out(&run.curriculum, run.first_losses(Q)).unwrap();
        for (&step, real) in run.measured.iter().zip(run.losses.chunks(Q)) {
            let at = &rolled.losses[step as usize * Q..][..Q];
            assert!(largest(at.iter().zip(real).map(|(x, y)| x - y)) < 1e-9, "step {step}");
        }
    }
}

#[test]
fn ninety_percent_bands_hold_ninety_percent_of_new_losses() {
    for kind in [Kind::Linear, Kind::Momentum] {
        bands_hold(kind);
    }
}

fn bands_hold(kind: Kind) {
    let world = World::new(kind, 0.02);
    let simulator = fitted(&world.recorded(0..16, 40, 1), FitOptions::new(kind));
    let judged = judge(&simulator, &world.recorded(100..200, 40, 1)).unwrap();
    let coverage: Vec<f64> = judged.iter().filter_map(|j| j.covered).collect();
    let n = coverage.len() as f64;
    let mean = coverage.iter().sum::<f64>() / n;
    // Runs are independent, losses within a run are not: the tolerance is three standard errors over runs.
    let deviation = (coverage.iter().map(|c| (c - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt();
    assert!((mean - 0.9).abs() < 3.0 * deviation / n.sqrt() + 0.02, "{mean} ± {}", deviation / n.sqrt());
    for quarter in 0..4 {
        let share = judged.iter().map(|j| j.coverage[quarter]).sum::<f64>() / n;
        assert!(share > 0.82 && share < 0.98, "{kind:?}, quarter {quarter}: {share}");
    }
}

#[test]
fn a_single_run_chooses_lambda_by_generalised_cross_validation() {
    let world = World::new(Kind::Linear, 0.01);
    let run = world.recorded(0..1, 300, 1);
    let found = fit(&run, &FitOptions { draws: 0, ..FitOptions::new(Kind::Linear) }, &|_, _| {}).unwrap();
    assert_eq!(found.chosen.n_validated, 0);
    let test = world.recorded(100..110, 30, 1);
    let mse = |simulator: &Simulator| {
        judge(simulator, &test).unwrap().iter().flat_map(|j| j.mse.clone()).sum::<f64>() / (10 * Q) as f64
    };
    let each =
        |lambda| mse(&fitted(&run, FitOptions { lambda: Some(lambda), draws: 0, ..FitOptions::new(Kind::Linear) }));
    let errors: Vec<f64> = found.chosen.tried.iter().map(|t| each(t.lambda)).collect();
    let least = errors.iter().copied().fold(f64::INFINITY, f64::min);
    assert!(mse(&found.simulator) < 1.5 * least, "{} of {errors:?}", mse(&found.simulator));
    assert!(errors.iter().any(|&e| e > 3.0 * least), "the choice matters: {errors:?}");
}

#[test]
fn unseen_examples_are_refused_or_have_the_mean_of_the_seen_ones() {
    let mut recorded = World::new(Kind::Linear, 0.01).recorded(0..8, 20, 1);
    for batch in recorded.runs.iter_mut().flat_map(|run| &mut run.curriculum.batches) {
        batch.retain(|&i| i != 3);
    }
    let c = Curriculum { batches: vec![vec![3, 1], vec![0]], learning_rates: vec![1.0; 2] };
    let refused = fitted(&recorded, FitOptions::new(Kind::Linear)).roll_out(&c, &[1.0; Q]).unwrap_err().to_string();
    assert!(refused.contains("`t3`"), "{refused}");
    let options = FitOptions { unseen: Unseen::Mean, ..FitOptions::new(Kind::Linear) };
    let simulator = fitted(&recorded, options);
    assert_eq!(simulator.roll_out(&c, &[1.0; Q]).unwrap().unseen, [3]);
    let mean = |of: &dyn Fn(usize) -> f64| (0..N).filter(|&i| i != 3).map(of).sum::<f64>() / (N - 1) as f64;
    assert!((simulator.a(3)[2] - mean(&|i| simulator.a(i)[2])).abs() < 1e-15);
    assert!((simulator.b(3)[2] - mean(&|i| simulator.b(i)[2])).abs() < 1e-15);
}

#[test]
fn a_simulator_comes_back_from_its_folder() {
    let recorded = World::new(Kind::Linear, 0.01).recorded(0..8, 20, 1);
    for kind in Kind::FITTED {
        let simulator = fitted(&recorded, FitOptions::new(kind));
        let folder = tempfile::tempdir().unwrap();
        simulator.save(folder.path()).unwrap();
        let read = Simulator::open(folder.path()).unwrap();
        let (c, first) = (&recorded.runs[0].curriculum, simulator.first_losses());
        let (was, is) = (simulator.roll_out(c, first).unwrap(), read.roll_out(c, first).unwrap());
        assert_eq!(was.losses, is.losses);
        // Draws are kept in f32.
        assert!(largest(was.upper.iter().zip(&is.upper).map(|(x, y)| (x - y) / y)) < 1e-6);
    }
}

#[test]
fn a_fit_does_not_depend_on_the_number_of_threads() {
    let recorded = World::new(Kind::Linear, 0.01).recorded(0..8, 20, 1);
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| fitted(&recorded, FitOptions::new(Kind::Linear)))
    };
    assert_eq!(with(1), with(3));
}

#[test]
fn curricula_that_are_none_are_refused() {
    let simulator = fitted(&World::new(Kind::Linear, 0.01).recorded(0..8, 20, 1), FitOptions::new(Kind::Linear));
    let refused = |batches: Vec<Vec<usize>>, rates: usize, first: &[f64]| {
        let c = Curriculum { batches, learning_rates: vec![1.0; rates] };
        simulator.roll_out(&c, first).unwrap_err().to_string()
    };
    assert!(refused(vec![vec![0]], 2, &[1.0; Q]).contains("2 learning rates"));
    assert!(refused(vec![vec![0], vec![N]], 2, &[1.0; Q]).contains("step 1"));
    assert!(refused(vec![vec![0]], 1, &[1.0]).contains("5 queries"));
    assert!(refused(vec![vec![0]], 1, &[1.0, 1.0, 1.0, 1.0, f64::NAN]).contains("4 finite"));
}
