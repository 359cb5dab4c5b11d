//! A GPT-2 on rows of different lengths against transformers and EK-FAC in f64 (tests/reference/README.md).
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)] // Helpers of tests are tests.

mod common;

use common::{Fitted, fit, limits, prepare, reference, relative_error, rows, score_all, tensors};
use etymon_attribution::{Parts, Queries, Rank};
use etymon_curvature::{Damping, Preconditioner, Spectrum};
use etymon_data::{Batch, Padding};
use etymon_model::{Consumer, Measurement, Model, Objective, load};
use etymon_tensor::Cpu;

type Work = Cpu<f32>;

fn model() -> Model<Work> {
    load(Work::new(), &reference("lm")).unwrap()
}

fn fitted(model: &Model<Work>) -> Fitted {
    fit(model, &rows("lm/train.jsonl"), Objective::TrainLoss, limits(700), 1, Padding::None)
}

fn ekfac(fitted: &Fitted) -> Preconditioner<'_> {
    Preconditioner::Kronecker { factors: &fitted.factors, spectrum: Spectrum::Corrected, damping: Damping::default() }
}

#[test]
fn logits_and_losses_agree_with_transformers() {
    let model = model();
    let (train, queries) = (rows("lm/train.jsonl"), rows("lm/query.jsonl"));
    let forward = tensors("lm/forward.safetensors");
    let logits: Vec<f64> = model.logits(train[0].token_ids()).unwrap();
    let error = relative_error(&logits, &forward.read_f64("logits.v000").unwrap());
    assert!(error < 1e-5, "logits: {error:e}");
    let run = |examples: &[_], objective| {
        let batch = Batch::stack(examples, Padding::None).unwrap();
        model.run(&batch, objective, Consumer::Values).unwrap()
    };
    let error = relative_error(&run(&train, Objective::TrainLoss), &forward.read_f64("train_loss").unwrap());
    assert!(error < 1e-5, "train loss: {error:e}");
    let measured = run(&queries, Objective::Measurement(Measurement::LogLikelihood));
    let error = relative_error(&measured, &forward.read_f64("measurement").unwrap());
    assert!(error < 1e-5, "measurement: {error:e}");
}

#[test]
fn eigenvalues_and_corrections_agree_with_the_f64_reference() {
    let model = model();
    let fitted = fitted(&model);
    let reference = tensors("lm/ekfac_f64.safetensors");
    let means = fitted.corrections.means();
    for (i, spec) in model.layers().iter().enumerate() {
        let (a, s) = fitted.factors.eigenvalues(etymon_model::LayerId(i)).unwrap();
        let lambda: Vec<f64> = means[i].iter().map(|&x| f64::from(x)).collect();
        for (what, ours) in [("eigenvalues_A", &a), ("eigenvalues_S", &s), ("lambda", &lambda)] {
            let theirs = reference.read_f64(&format!("{what}.{}", spec.name)).unwrap();
            let error = relative_error(ours, &theirs);
            println!("{} {what}: {error:.1e}", spec.name);
            assert!(error < 1e-3, "{} {what}: {error:e}", spec.name);
        }
    }
}

#[test]
fn scores_per_layer_and_in_total_agree_with_the_f64_reference() {
    let model = model();
    let fitted = fitted(&model);
    let (train, queries) = (rows("lm/train.jsonl"), rows("lm/query.jsonl"));
    let reference = tensors("lm/ekfac_f64.safetensors");
    let prepared = prepare(&model, &queries, ekfac(&fitted), Rank::Full);
    let scores = score_all(&model, &prepared, &train, limits(700), Parts { layers: true, tokens: false });
    let error = relative_error(&scores.total, &reference.read_f64("ekfac").unwrap());
    println!("total: {error:.1e}");
    assert!(error < 1e-3, "total: {error:e}");
    for (spec, layer) in model.layers().iter().zip(&scores.layers) {
        let error = relative_error(layer, &reference.read_f64(&format!("layer.{}", spec.name)).unwrap());
        println!("{}: {error:.1e}", spec.name);
        assert!(error < 1e-3, "{}: {error:e}", spec.name);
    }
    let plain: Queries<Work> = prepare(&model, &queries, Preconditioner::Identity, Rank::Full);
    let dots = score_all(&model, &plain, &train, limits(700), Parts::default()).total;
    let error = relative_error(&dots, &reference.read_f64("grad_dot").unwrap());
    println!("grad_dot: {error:.1e}");
    assert!(error < 1e-5, "grad_dot: {error:e}");
}

#[test]
fn a_query_of_few_rows_is_kept_as_those_rows_and_scores_the_same() {
    let (model, reference) = (model(), tensors("lm/ekfac_f64.safetensors"));
    let (train, mut queries) = (rows("lm/train.jsonl"), rows("lm/query.jsonl"));
    let shortest = (0..queries.len()).min_by_key(|&i| queries[i].n_rows()).unwrap();
    let wanted = reference.read_f64("grad_dot").unwrap()[shortest * train.len()..][..train.len()].to_vec();
    let numbers = |n, rows| Queries::<Work>::n_numbers(model.layers(), n, Rank::Full, rows);
    let alone = [queries.swap_remove(shortest)];
    let rows = alone[0].n_rows();
    assert!(numbers(1, Some(rows)) < numbers(1, None), "{rows} rows are kept as a matrix");
    for rank in [Rank::Full, Rank::Low(rows)] {
        let prepared = prepare(&model, &alone, Preconditioner::Identity, rank);
        for parts in [Parts::default(), Parts { layers: true, tokens: true }] {
            let error = relative_error(&score_all(&model, &prepared, &train, limits(700), parts).total, &wanted);
            println!("{rank:?}, {parts:?}: {error:.1e}");
            assert!(error < 1e-5, "{rank:?}, {parts:?}: {error:e}");
        }
    }
}

#[test]
fn parts_by_layer_and_by_token_add_up_to_the_score() {
    let model = model();
    let fitted = fitted(&model);
    let (train, queries) = (rows("lm/train.jsonl"), rows("lm/query.jsonl"));
    for rank in [Rank::Full, Rank::Low(8)] {
        let prepared = prepare(&model, &queries, ekfac(&fitted), rank);
        let plain = score_all(&model, &prepared, &train, limits(700), Parts::default());
        let parts = score_all(&model, &prepared, &train, limits(300), Parts { layers: true, tokens: true });
        assert!(relative_error(&parts.total, &plain.total) < 1e-5);
        assert!(relative_error(&parts.token_sums, &plain.total) < 1e-5);
        let mut sum = vec![0.0; plain.total.len()];
        for layer in &parts.layers {
            sum.iter_mut().zip(layer).for_each(|(s, x)| *s += x);
        }
        assert!(relative_error(&sum, &plain.total) < 1e-5);
    }
}

#[test]
fn the_vocabulary_head_can_be_tapped_and_its_tokens_add_up() {
    let mut model = model();
    model.select_layers(Some("lm_head|c_fc")).unwrap();
    assert_eq!(model.layers().len(), 3);
    let (train, queries) = (rows("lm/train.jsonl"), rows("lm/query.jsonl"));
    let prepared = prepare(&model, &queries, Preconditioner::Identity, Rank::Full);
    let plain = score_all(&model, &prepared, &train[..40], limits(700), Parts::default());
    let parts = score_all(&model, &prepared, &train[..40], limits(100), Parts { layers: true, tokens: true });
    assert!(relative_error(&parts.total, &plain.total) < 1e-5);
    assert!(relative_error(&parts.token_sums, &plain.total) < 1e-5);
}

#[test]
fn low_rank_queries_approach_the_full_score_as_the_rank_grows() {
    let model = model();
    let fitted = fitted(&model);
    let (train, queries) = (rows("lm/train.jsonl"), rows("lm/query.jsonl"));
    let total = |rank| {
        let prepared = prepare(&model, &queries, ekfac(&fitted), rank);
        score_all(&model, &prepared, &train, limits(700), Parts::default()).total
    };
    let full = total(Rank::Full);
    let errors: Vec<f64> = [4, 16, 48].map(|r| relative_error(&total(Rank::Low(r)), &full)).to_vec();
    println!("relative errors at rank 4, 16, 48: {errors:?}");
    assert!(errors[0] > errors[1] && errors[1] > errors[2]);
    assert!(errors[2] < 1e-4, "rank 48 is exact for layers of width 48 and 49: {errors:?}");
}
