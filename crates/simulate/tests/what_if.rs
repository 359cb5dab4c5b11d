//! What an edit changes, in a world whose effects are known.
#![allow(clippy::unwrap_used)]

use etymon_simulate::{Curriculum, FitOptions, Kind, Recorded, Run, SimulateError, Simulator, Unseen, fit};

const N: usize = 6;
const FIRST: [f64; 2] = [3.0, 2.0];

/// A_i and B_i of query q.
fn effects(i: usize, q: usize) -> (f64, f64) {
    (-0.01 * ((i + 2 * q) % 5) as f64, 0.02 * ((3 * i + q) % 4) as f64 - 0.03)
}

/// `[T + 1, 2]` What the world does.
fn losses(batches: &[Vec<usize>]) -> Vec<f64> {
    let mut now = FIRST;
    let mut all = now.to_vec();
    for batch in batches {
        for (q, loss) in now.iter_mut().enumerate() {
            let (a, b) = batch.iter().map(|&i| effects(i, q)).fold((1.0, 0.0), |(a, b), e| (a + e.0, b + e.1));
            *loss = a * *loss + b;
        }
        all.extend(now);
    }
    all
}

fn batches(run: usize) -> Vec<Vec<usize>> {
    (0..60).map(|t| vec![(t * t + run) % N, (t * 5 + t / 7 + 2 * run) % N]).collect()
}

fn curriculum(batches: Vec<Vec<usize>>) -> Curriculum {
    Curriculum { learning_rates: vec![0.1; batches.len()], batches }
}

fn simulator(kind: Kind, draws: usize) -> Simulator {
    let runs = (0..5).map(|r| Run {
        name: r.to_string(),
        losses: losses(&batches(r)),
        measured: (0..=60).collect(),
        curriculum: curriculum(batches(r)),
    });
    let ids = |n: usize, letter: char| (0..n).map(|i| format!("{letter}{i}")).collect();
    let recorded = Recorded { train_ids: ids(N, 't'), query_ids: ids(2, 'q'), runs: runs.collect() };
    let options = FitOptions { kind, lambda: Some(1e-9), unseen: Unseen::Refuse, draws, seed: 1 };
    fit(&recorded, &options, &|_, _| ()).unwrap().simulator
}

#[test]
fn the_change_is_the_difference_of_the_final_losses_of_two_runs_of_other_lengths() {
    let simulator = simulator(Kind::Linear, 8);
    let (before, after) =
        (batches(0), [vec![1, 2, 2], vec![], vec![4]].into_iter().cycle().take(27).collect::<Vec<_>>());
    let changes = simulator.changes(&curriculum(before.clone()), &curriculum(after.clone()), &FIRST).unwrap();
    for (q, change) in changes.iter().enumerate() {
        let expected = losses(&after)[2 * after.len() + q] - losses(&before)[2 * before.len() + q];
        assert!((change.value - expected).abs() < 1e-6, "{change:?}, {expected}");
        let [low, high] = change.band.unwrap();
        assert!(low <= change.value && change.value <= high && high - low < 0.1, "{change:?}");
    }
    let same = simulator.changes(&curriculum(before.clone()), &curriculum(before), &FIRST).unwrap();
    assert!(same.iter().all(|change| change.value == 0.0));
}

#[test]
fn a_step_without_examples_changes_nothing_and_momentum_waits_for_the_next() {
    for kind in Kind::FITTED {
        let simulator = simulator(kind, 0);
        let plain = simulator.roll_out(&curriculum(vec![vec![0, 3], vec![1, 2]]), &FIRST).unwrap().losses;
        let paused = curriculum(vec![vec![0, 3], vec![], vec![], vec![1, 2]]);
        let paused = simulator.roll_out(&paused, &FIRST).unwrap().losses;
        assert_eq!(paused[4..8], [&plain[2..4], &plain[2..4]].concat(), "{}", kind.name());
        assert_eq!(paused[8..], plain[4..], "{}", kind.name());
    }
}

#[test]
fn a_curriculum_of_another_list_of_examples_is_adopted_by_their_ids() {
    let simulator = simulator(Kind::Additive, 0);
    let ids = ["t5", "t0", "nobody"].map(str::to_owned);
    let adopted = simulator.adopt(&curriculum(vec![vec![1, 0], vec![]]), &ids).unwrap();
    assert_eq!(adopted.batches, [vec![0, 5], vec![]]);
    let unknown = simulator.adopt(&curriculum(vec![vec![2]]), &ids);
    assert!(matches!(unknown, Err(SimulateError::NoSuchId { id, n: N }) if id == "nobody"));
}
