//! TracIn-CP as a simulator, on runs of a world that it describes.
#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of tests are tests.

use etymon_simulate::{
    Curriculum, FitOptions, Kind, Recorded, Run, SimulateError, Simulator, Unseen, fit, fit_scores, judge,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const N: usize = 9;
const Q: usize = 4;
/// Of the losses: L ← L − κ η Σ S.
const KAPPA: f64 = 1.0 / 7.0;

fn scores() -> Vec<f64> {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    (0..N * Q).map(|_| rng.random_range(-0.5..1.0)).collect()
}

/// Runs whose learning rates fall, measured every `every` steps; the last step has examples twice, one step has none.
fn recorded(seeds: std::ops::Range<u64>, every: usize, noise: f64) -> Recorded {
    let scores = scores();
    let run = |seed: u64| {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut batches: Vec<Vec<usize>> = (0..24).map(|_| (0..3).map(|_| rng.random_range(0..N)).collect()).collect();
        batches[5].clear();
        batches[23] = vec![1, 1, 2];
        let learning_rates: Vec<f64> = (0..24).map(|t| 0.1 * (1.0 - f64::from(t) / 30.0)).collect();
        let mut now: Vec<f64> = (0..Q).map(|_| rng.random_range(1.0..3.0)).collect();
        let (mut measured, mut losses) = (vec![0], now.clone());
        for (t, (batch, rate)) in batches.iter().zip(&learning_rates).enumerate() {
            for (q, loss) in now.iter_mut().enumerate() {
                *loss -= KAPPA * rate * batch.iter().map(|&i| scores[i * Q + q]).sum::<f64>();
                *loss += noise * (0..12).map(|_| rng.random::<f64>() - 0.5).sum::<f64>();
            }
            if (t + 1) % every == 0 {
                measured.push(t as u64 + 1);
                losses.extend(&now);
            }
        }
        Run { name: format!("run-{seed}"), curriculum: Curriculum { batches, learning_rates }, measured, losses }
    };
    let ids = |prefix: &str, n| (0..n).map(|i| format!("{prefix}{i}")).collect();
    Recorded { train_ids: ids("t", N), query_ids: ids("q", Q), runs: seeds.map(run).collect() }
}

fn options() -> FitOptions {
    FitOptions::new(Kind::TracinCp)
}

#[test]
fn the_scale_of_the_scores_is_found_in_any_unit_and_new_runs_are_simulated_exactly() {
    for (every, unit) in [(1, 1.0), (4, 250.0)] {
        let scores: Vec<f64> = scores().iter().map(|s| unit * s).collect();
        let fitted = fit_scores(&recorded(0..4, every, 0.0), &scores, &options()).unwrap();
        assert!((fitted.chosen.scale.unwrap() * unit / KAPPA - 1.0).abs() < 1e-12);
        let judged = judge(&fitted.simulator, &recorded(50..53, every, 0.0)).unwrap();
        assert!(judged.iter().flat_map(|j| &j.mse).all(|mse| *mse < 1e-24), "{judged:?}");
        assert!(judged[0].final_spearman.unwrap() > 0.999_999);
    }
}

#[test]
fn a_learning_rate_of_twice_the_size_changes_the_losses_twice_as_much() {
    let train = recorded(0..4, 1, 0.0);
    let simulator = fit_scores(&train, &scores(), &options()).unwrap().simulator;
    let run = &train.runs[0];
    let first = run.first_losses(Q);
    let doubled = run.curriculum.learning_rates.iter().map(|rate| 2.0 * rate).collect();
    let doubled = Curriculum { learning_rates: doubled, ..run.curriculum.clone() };
    let end = |c: &Curriculum| simulator.roll_out(c, first).unwrap().losses[24 * Q..].to_vec();
    for ((once, twice), first) in end(&run.curriculum).iter().zip(end(&doubled)).zip(first) {
        assert!((2.0 * (once - first) - (twice - first)).abs() < 1e-12);
    }
}

#[test]
fn ninety_percent_bands_hold_ninety_percent_of_new_losses() {
    let fitted = fit_scores(&recorded(0..16, 1, 0.02), &scores(), &options()).unwrap();
    assert_eq!(fitted.chosen.n_validated, 16);
    let judged = judge(&fitted.simulator, &recorded(100..200, 1, 0.02)).unwrap();
    let share = judged.iter().filter_map(|j| j.covered).sum::<f64>() / judged.len() as f64;
    assert!((share - 0.9).abs() < 0.04, "{share}");
}

#[test]
fn a_tracin_simulator_comes_back_from_its_folder() {
    let train = recorded(0..6, 2, 0.01);
    let simulator = fit_scores(&train, &scores(), &options()).unwrap().simulator;
    let folder = tempfile::tempdir().unwrap();
    simulator.save(folder.path()).unwrap();
    let read = Simulator::open(folder.path()).unwrap();
    let roll_out = |s: &Simulator| s.roll_out(&train.runs[1].curriculum, s.first_losses()).unwrap().losses;
    assert_eq!(roll_out(&simulator), roll_out(&read));
}

#[test]
fn examples_that_no_run_contained_have_their_own_scores() {
    let mut train = recorded(0..4, 1, 0.0);
    for run in &mut train.runs {
        // The losses are no longer those of the batches; the scale is another one, and κ the ratio below.
        run.curriculum.batches.iter_mut().for_each(|batch| batch.retain(|&i| i != 3));
    }
    let options = FitOptions { unseen: Unseen::Mean, ..options() };
    let simulator = fit_scores(&train, &scores(), &options).unwrap().simulator;
    let ratio = |i: usize| simulator.b(i)[1] / scores()[i * Q + 1];
    assert!((ratio(3) / ratio(4) - 1.0).abs() < 1e-12);
}

#[test]
fn scores_that_make_no_simulator_are_refused() {
    let train = recorded(0..4, 1, 0.0);
    let refused = |scores: &[f64]| fit_scores(&train, scores, &options()).unwrap_err().to_string();
    assert!(refused(&[0.0; 3]).contains("3 scores for 9 train examples and 4 queries"));
    assert!(refused(&[0.0; N * Q]).contains("no scale"));
    let mut broken = scores();
    broken[Q + 2] = f64::NAN;
    let text = refused(&broken);
    assert!(text.contains("`t1`") && text.contains("`q2`") && text.contains("NaN"), "{text}");
    assert!(matches!(fit(&train, &options(), &|_, _| {}), Err(SimulateError::NoScores { kind: "tracin-cp" })));
}
