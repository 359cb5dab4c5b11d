//! Values of the learning rate.

use etymon_train::{LearningRate, Schedule};

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-15
}

#[test]
fn the_learning_rate_rises_over_the_warm_up_and_reaches_its_peak() {
    for schedule in [Schedule::Constant, Schedule::Cosine] {
        let rate = LearningRate { peak: 2.0, schedule, warmup_steps: 4, min_ratio: 0.0 };
        assert_eq!([0, 1, 2, 3, 4].map(|t| rate.at(t, 12)), [0.5, 1.0, 1.5, 2.0, 2.0]);
    }
}

#[test]
fn a_constant_learning_rate_stays() {
    let rate = LearningRate::constant(0.3);
    assert_eq!([0, 5, 99].map(|t| rate.at(t, 100)), [0.3; 3]);
}

#[test]
fn the_cosine_is_half_way_in_the_middle_and_ends_at_its_lowest() {
    let rate = LearningRate { peak: 1.0, schedule: Schedule::Cosine, warmup_steps: 2, min_ratio: 0.1 };
    assert!(close(rate.at(2, 10), 1.0));
    assert!(close(rate.at(6, 10), 0.55));
    assert!(close(rate.at(4, 10), 0.1 + 0.9 * 0.5 * (1.0 + 0.5f64.sqrt())));
    assert!(close(rate.at(10, 10), 0.1));
    assert!(close(rate.at(50, 10), 0.1));
}

#[test]
fn a_warm_up_longer_than_the_run_is_cut_off() {
    let rate = LearningRate { peak: 1.0, schedule: Schedule::Cosine, warmup_steps: 10, min_ratio: 0.0 };
    assert_eq!([0, 4].map(|t| rate.at(t, 5)), [0.1, 0.5]);
    assert!(rate.at(10, 5).is_finite());
}

#[test]
fn the_line_falls_evenly_to_its_lowest() {
    let rate = LearningRate { peak: 2.0, schedule: Schedule::Linear, warmup_steps: 2, min_ratio: 0.25 };
    assert_eq!([2, 6, 10, 50].map(|t| rate.at(t, 10)), [2.0, 1.25, 0.5, 0.5]);
}
