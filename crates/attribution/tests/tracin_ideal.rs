//! TracIn-Ideal on logs computed by hand.
#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of tests are tests.

mod common;

use std::path::Path;

use common::Scores;
use common::passes::sequences;
use etymon_attribution::{AttributionError, TracInIdeal};
use etymon_store::TrainingLog;

fn ids(list: &[&str]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

/// Steps 0..4 of run `a`; query `q` measured before each, `r` before steps 0 and 2 and at the end.
fn write(folder: &Path) {
    let mut log = TrainingLog::open(folder, "a");
    for (step, batch) in [vec!["0", "1"], vec!["1", "2", "2"], vec!["0"], vec!["2"]].iter().enumerate() {
        log.step(step as u64, 0.1, &ids(batch), 1.0).unwrap();
    }
    for (step, loss) in [5.0, 4.0, 4.6, 3.0, 3.5].into_iter().enumerate() {
        log.losses(step as u64, &ids(&["q"]), &[loss]).unwrap();
    }
    for (step, loss) in [(0, 2.0), (2, 1.0), (4, 0.5)] {
        log.losses(step, &ids(&["r"]), &[loss]).unwrap();
    }
    log.losses(0, &ids(&["once"]), &[1.0]).unwrap();
    log.flush().unwrap();
    let mut other = TrainingLog::open(folder, "b");
    other.step(0, 0.1, &ids(&["0"]), 1.0).unwrap();
    other.losses(0, &ids(&["q"]), &[9.0]).unwrap();
    other.losses(2, &ids(&["q"]), &[1.0]).unwrap();
    other.flush().unwrap();
}

fn close(got: &[f64], want: &[f64]) {
    assert_eq!(got.len(), want.len());
    assert!(got.iter().zip(want).all(|(x, y)| (x - y).abs() < 1e-6), "{got:?} is not {want:?}");
}

#[test]
fn a_change_of_loss_is_divided_among_the_batches_between_two_measurements() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path());
    let scores = TracInIdeal::read(dir.path(), "a", &ids(&["q", "r"])).unwrap();
    // q: +1 over {0, 1}, −0.6 over {1, 2, 2}, +1.6 on 0, −0.5 on 2. r: +1 over {0, 1, 1, 2, 2}, +0.5 over {0, 2}.
    close(scores.scores("0").unwrap(), &[0.5 + 1.6, 0.2 + 0.25]);
    close(scores.scores("1").unwrap(), &[0.5 - 0.2, 0.4]);
    close(scores.scores("2").unwrap(), &[-0.4 - 0.5, 0.4 + 0.25]);
    assert!(scores.scores("3").is_none());
}

#[test]
fn scores_reach_the_sink_in_train_order_and_unseen_examples_have_zero() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path());
    let scores = TracInIdeal::read(dir.path(), "a", &ids(&["r", "q"])).unwrap();
    let mut sink = Scores::new(2);
    scores.emit(sequences(4, 1).into_iter().rev().map(Ok), &mut sink).unwrap();
    close(&sink.finish().total, &[0.0, 0.65, 0.4, 0.45, 0.0, -0.9, 0.3, 2.1]);
}

#[test]
fn what_a_log_lacks_is_named() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path());
    let read = |run: &str, query: &str| TracInIdeal::read(dir.path(), run, &ids(&[query])).unwrap_err();
    assert!(matches!(read("c", "q"), AttributionError::NoSteps { run } if run == "c"));
    assert!(matches!(read("a", "x"), AttributionError::NotWatched { query, times: 0, .. } if query == "x"));
    assert!(matches!(read("a", "once"), AttributionError::NotWatched { times: 1, .. }));
    assert!(matches!(read("b", "q"), AttributionError::NoStep { step: 1, .. }));
}
