//! A convolutional network against kronfluence 1.0.1 (scripts/golden_convnet.py), in f64. Labels of the data.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)] // Helpers of tests are tests.

mod common;

use common::{Fitted, fit, limits, prepare, reference, relative_error, rows, score_all, tensors};
use etymon_attribution::{Parts, Rank, self_influence};
use etymon_curvature::{Damping, Preconditioner, Spectrum};
use etymon_data::Padding;
use etymon_model::{Model, Objective, load};
use etymon_tensor::Cpu;

type Exact = Cpu<f64>;

fn fitted(batch: usize) -> (Model<Exact>, Fitted) {
    let model = load(Exact::new(), &reference("convnet")).unwrap();
    let fitted = fit(&model, &rows("convnet/train.csv"), Objective::TrainLoss, limits(batch), 1, Padding::None);
    (model, fitted)
}

/// Both triangles from the lower one.
fn symmetric(lower: &[f64], d: usize) -> Vec<f64> {
    (0..d * d).map(|at| lower[(at / d).max(at % d) * d + (at / d).min(at % d)]).collect()
}

#[test]
fn rows_of_a_convolution_are_counted_by_position_as_kronfluence_counts_them() {
    let (model, fitted) = fitted(20);
    let reference = tensors("convnet/expected.safetensors");
    assert_eq!(model.layers().iter().map(|spec| spec.positions).collect::<Vec<_>>(), [72, 4, 1, 1]);
    for (i, spec) in model.layers().iter().enumerate() {
        let name = |what: &str| format!("{}.{what}", spec.name);
        let layer = &fitted.covariances.layers[i];
        for what in ["num_activation_covariance_processed", "num_gradient_covariance_processed"] {
            assert_eq!(reference.read_i64(&name(what)).unwrap(), [layer.rows as i64]);
        }
        assert_eq!(reference.read_i64(&name("num_lambda_processed")).unwrap(), [fitted.corrections.examples as i64]);
        for (what, ours) in [
            ("activation_covariance", &symmetric(&layer.a, spec.d_in)),
            ("gradient_covariance", &symmetric(&layer.s, spec.d_out)),
            ("lambda_matrix", &fitted.corrections.layers[i]),
        ] {
            let error = relative_error(ours, &reference.read_f64(&name(what)).unwrap());
            println!("{} {what}: {error:.1e}", spec.name);
            assert!(error < 1e-5, "{} {what}: relative error {error:e}", spec.name);
        }
    }
}

#[test]
fn scores_through_convolutions_agree_with_kronfluence_in_any_batch() {
    let theirs = tensors("convnet/expected.safetensors").read_f64("ekfac").unwrap();
    let (train, queries) = (rows("convnet/train.csv"), rows("convnet/query.csv"));
    for batch in [1, 7, 48] {
        let (model, Fitted { factors, .. }) = fitted(batch);
        let damped =
            Preconditioner::Kronecker { factors: &factors, spectrum: Spectrum::Corrected, damping: Damping::default() };
        let prepared = prepare(&model, &queries, damped, Rank::Full);
        let ours = score_all(&model, &prepared, &train, limits(batch), Parts::default()).total;
        let error = relative_error(&ours, &theirs);
        println!("ekfac in batches of {batch}: relative error {error:.1e}");
        assert!(error < 1e-5, "relative error {error:e}");
    }
}

#[test]
fn gradient_dots_of_convolutions_are_the_same_by_gradients_and_by_rows() {
    let model: Model<Exact> = load(Exact::new(), &reference("convnet")).unwrap();
    let (train, queries) = (rows("convnet/train.csv"), rows("convnet/query.csv"));
    let scores = |rank| {
        let prepared = prepare(&model, &queries, Preconditioner::Identity, rank);
        score_all(&model, &prepared, &train, limits(9), Parts::default()).total
    };
    let dots = scores(Rank::Full);
    // More than any layer's: nothing is truncated.
    assert!(relative_error(&scores(Rank::Low(100)), &dots) < 1e-6);

    let mut sink = common::Scores::new(1);
    let of_train = train.clone().into_iter().map(Ok);
    self_influence(&model, Preconditioner::Identity, of_train, limits(9), &mut sink).unwrap();
    let itself = prepare(&model, &train, Preconditioner::Identity, Rank::Full);
    let all = score_all(&model, &itself, &train, limits(9), Parts::default()).total;
    let diagonal: Vec<f64> = (0..train.len()).map(|i| all[i * train.len() + i]).collect();
    assert!(relative_error(&sink.finish().total, &diagonal) < 1e-6);
}
