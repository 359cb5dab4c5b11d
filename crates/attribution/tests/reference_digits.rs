//! An MLP classifier against kronfluence 1.0.1 (tests/reference/README.md). Labels of the data.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)] // Helpers of tests are tests.

mod common;

use common::{Fitted, fit, limits, pearson, prepare, reference, relative_error, rows, score_all, tensors};
use etymon_attribution::{Parts, Rank, self_influence};
use etymon_curvature::{Damping, Preconditioner, Spectrum};
use etymon_data::Padding;
use etymon_model::{LayerId, Model, Objective, load};
use etymon_tensor::Cpu;

type Work = Cpu<f32>;

fn model() -> Model<Work> {
    load(Work::new(), &reference("digits")).unwrap()
}

fn fitted(model: &Model<Work>) -> Fitted {
    fit(model, &rows("digits/train.csv"), Objective::TrainLoss, limits(512), 1, Padding::None)
}

fn kronecker(fitted: &Fitted, spectrum: Spectrum, damping: Damping) -> Preconditioner<'_> {
    Preconditioner::Kronecker { factors: &fitted.factors, spectrum, damping }
}

/// Both triangles from the lower one.
fn symmetric(lower: &[f64], d: usize) -> Vec<f64> {
    (0..d * d).map(|at| lower[(at / d).max(at % d) * d + (at / d).min(at % d)]).collect()
}

#[test]
fn covariances_eigenvalues_and_corrections_agree_with_kronfluence() {
    let model = model();
    let fitted = fitted(&model);
    let reference = tensors("digits/factors.emp.safetensors");
    for (i, spec) in model.layers().iter().enumerate() {
        let read = |what: &str| reference.read_f64(&format!("{}.{what}", spec.name)).unwrap();
        let (a, s) = fitted.factors.eigenvalues(LayerId(i)).unwrap();
        let layer = &fitted.covariances.layers[i];
        assert_eq!(layer.rows, 1400);
        let (full_a, full_s) = (symmetric(&layer.a, spec.d_in), symmetric(&layer.s, spec.d_out));
        for (what, ours) in [
            ("activation_covariance", &full_a),
            ("gradient_covariance", &full_s),
            ("activation_eigenvalues", &a),
            ("gradient_eigenvalues", &s),
            ("lambda_matrix", &fitted.corrections.layers[i]),
        ] {
            let error = relative_error(ours, &read(what));
            println!("{} {what}: {error:.1e}", spec.name);
            assert!(error < 1e-4, "{} {what}: relative error {error:e}", spec.name);
        }
    }
}

#[test]
fn scores_agree_with_kronfluence() {
    let model = model();
    let fitted = fitted(&model);
    let (train, queries) = (rows("digits/train.csv"), rows("digits/query.csv"));
    let reference = tensors("digits/scores.safetensors");
    for (name, preconditioner, most) in [
        ("emp.ekfac.damp_heuristic", kronecker(&fitted, Spectrum::Corrected, Damping::default()), 1e-3),
        ("emp.kfac.damp_heuristic", kronecker(&fitted, Spectrum::Kronecker, Damping::default()), 1e-3),
        ("emp.ekfac.damp_1e-8", kronecker(&fitted, Spectrum::Corrected, Damping::Absolute(1e-8)), 1e-3),
        ("identity", Preconditioner::Identity, 1e-5),
    ] {
        let prepared = prepare(&model, &queries, preconditioner, Rank::Full);
        let ours = score_all(&model, &prepared, &train, limits(512), Parts::default()).total;
        let theirs = reference.read_f64(name).unwrap();
        let (error, correlation) = (relative_error(&ours, &theirs), pearson(&ours, &theirs));
        println!("{name}: relative Frobenius error {error:.1e}, 1 - Pearson {:.1e}", 1.0 - correlation);
        assert!(correlation > 0.9999, "{name}: Pearson {correlation}");
        assert!(error < most, "{name}: relative error {error:e}");
    }
}

#[test]
fn self_influence_agrees_with_kronfluence() {
    let model = model();
    let fitted = fitted(&model);
    let train = rows("digits/train.csv");
    let mut sink = common::Scores::new(1);
    let preconditioner = kronecker(&fitted, Spectrum::Corrected, Damping::default());
    self_influence(&model, preconditioner, train.into_iter().map(Ok), limits(300), &mut sink).unwrap();
    let theirs = tensors("digits/scores.safetensors").read_f64("emp.ekfac.self.damp_heuristic").unwrap();
    let error = relative_error(&sink.finish().total, &theirs);
    println!("self-influence: relative error {error:.1e}");
    assert!(error < 1e-3, "relative error {error:e}");
}
