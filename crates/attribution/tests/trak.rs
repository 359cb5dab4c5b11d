//! TRAK against its formula, with the projection written out.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod common;

use common::{Scores, limits, reference, relative_error, rows};
use etymon_attribution::{AttributionError, Queries, Rank, Trak, TrakScores, trak_bytes};
use etymon_curvature::Preconditioner;
use etymon_data::{Batch, Content, Example, Padding};
use etymon_model::{Consumer, Measurement, Model, Objective};
use etymon_tensor::{Backend, Cpu, Folds, Signs};
use faer::Mat;
use faer::linalg::solvers::Solve;
use serde_json::json;

const TRAK: Trak = Trak { dim: 24, seed: 7, lambda: 0.0 };

fn model(part: &str) -> Model<Cpu<f64>> {
    etymon_model::load(Cpu::new(), &reference(part)).unwrap()
}

/// The same model with weights half as large: as another checkpoint.
fn earlier(part: &str) -> Model<Cpu<f64>> {
    let mut model = model(part);
    let backend = *model.backend();
    model.params_mut().iter_mut().for_each(|x| backend.scale(0.5, x));
    model
}

/// `[Q, N]` of some models.
fn trak<B: Folds>(trak: Trak, models: &[&Model<B>], queries: &[Example], train: &[Example], rows: usize) -> Vec<f64> {
    let mut scores = TrakScores::new(trak, queries.len()).unwrap();
    for model in models {
        scores.add(model, queries, train.iter().cloned().map(Ok), limits(rows), |_| ()).unwrap();
    }
    (0..queries.len()).flat_map(|q| (0..train.len()).map(move |m| (m, q))).map(|(m, q)| scores.score(m, q)).collect()
}

/// Pᵀ ∇margin of each example, from whole gradients and single signs.
fn dense_features(model: &Model<Cpu<f64>>, number: u64, examples: &[Example]) -> Mat<f64> {
    let (margin, all) = (Measurement::Margin, limits(1000));
    let gradients = Queries::prepare(model, examples, margin, Preconditioner::Identity, Rank::Full, all).unwrap();
    let mut out = Mat::zeros(examples.len(), TRAK.dim);
    for (layer, spec) in model.layers().iter().enumerate() {
        let signs = Signs::new(TRAK.seed, number, &spec.name);
        for i in 0..examples.len() {
            let gradient = gradients.gradient(model.backend(), spec, layer, i).unwrap();
            for (at, x) in model.backend().download::<f64>(&gradient).iter().enumerate() {
                (0..TRAK.dim).for_each(|col| out[(i, col)] -= x * signs.sign(at, col));
            }
        }
    }
    out
}

/// 1 − p of each example, p the probability of the mean margin.
fn one_minus_p(model: &Model<Cpu<f64>>, examples: &[Example]) -> Vec<f64> {
    let objective = Objective::Measurement(Measurement::Margin);
    let margins = model.run(&Batch::stack(examples, Padding::None).unwrap(), objective, Consumer::Values).unwrap();
    let weight = |(m, e): (&f64, &Example)| 1.0 - 1.0 / (1.0 + (-m / e.n_loss_rows() as f64).exp());
    margins.iter().zip(examples).map(weight).collect()
}

fn dense(models: &[&Model<Cpu<f64>>], queries: &[Example], train: &[Example]) -> Vec<f64> {
    let c = models.len() as f64;
    let mut sums = Mat::<f64>::zeros(queries.len(), train.len());
    let mut weights = vec![0.0; train.len()];
    for (number, model) in models.iter().enumerate() {
        let (phi, of) = (dense_features(model, number as u64, train), dense_features(model, number as u64, queries));
        let gram = phi.transpose() * &phi;
        sums += of * gram.full_piv_lu().solve(phi.transpose());
        weights.iter_mut().zip(one_minus_p(model, train)).for_each(|(sum, w)| *sum += w);
    }
    let place = (0..queries.len()).flat_map(|q| (0..train.len()).map(move |m| (q, m)));
    place.map(|(q, m)| sums[(q, m)] / c * weights[m] / c).collect()
}

#[test]
fn scores_are_those_of_the_formula_with_the_projection_written_out() {
    for (part, train, query) in
        [("digits", "digits/train.csv", "digits/query.csv"), ("lm", "lm/train.jsonl", "lm/query.jsonl")]
    {
        let (train, queries) = (&rows(train)[..90], &rows(query)[..5]);
        let (last, first) = (model(part), earlier(part));
        let models = [&first, &last];
        let ours = trak(TRAK, &models, queries, train, 300);
        let error = relative_error(&ours, &dense(&models, queries, train));
        println!("{part}: relative error {error:.1e}");
        assert!(error < 1e-10, "{part}: {error}");
    }
}

#[test]
fn for_classifiers_the_weight_is_one_minus_the_probability_of_the_label() {
    let (model, train) = (earlier("digits"), &rows("digits/train.csv")[..50]);
    let objective = Objective::Measurement(Measurement::LogLikelihood);
    let log_p = model.run(&Batch::stack(train, Padding::None).unwrap(), objective, Consumer::Values).unwrap();
    let expected: Vec<f64> = log_p.iter().map(|x| 1.0 - x.exp()).collect();
    assert!(relative_error(&one_minus_p(&model, train), &expected) < 1e-10);
}

#[test]
fn scores_do_not_depend_on_batches_and_come_in_the_order_of_the_train_set() {
    let (model, train, queries) = (model("lm"), rows("lm/train.jsonl"), rows("lm/query.jsonl"));
    let one = trak(TRAK, &[&model], &queries, &train, 64);
    let many = trak(TRAK, &[&model], &queries, &train, 2000);
    assert!(relative_error(&one, &many) < 1e-10);
    let mut scores = TrakScores::new(TRAK, queries.len()).unwrap();
    let mut done = 0;
    scores.add(&model, &queries, train.iter().cloned().map(Ok), limits(500), |n| done = n).unwrap();
    assert_eq!(done, train.len());
    let mut sink = Scores::new(queries.len());
    scores.emit(train.iter().cloned().map(Ok), &mut sink).unwrap();
    assert!(relative_error(&sink.finish().total, &one) < 1e-6);
}

/// Whether TRAK refuses λ = 0, and takes one above.
fn refuses<B: Folds>(model: &Model<B>, train: &[Example], dim: usize) {
    let queries = &rows("digits/query.csv")[..3];
    let add = |lambda| {
        let mut scores = TrakScores::new(Trak { dim, seed: 7, lambda }, queries.len()).unwrap();
        scores.add(model, queries, train.iter().cloned().map(Ok), limits(37), |_| ())
    };
    let error = add(0.0).unwrap_err();
    assert!(matches!(error, AttributionError::TrakSingular { dim: k, n_train } if (k, n_train) == (dim, train.len())));
    assert!(error.to_string().contains("--trak-lambda") && error.to_string().contains("--trak-dim"), "{error}");
    add(1e-3).unwrap();
}

#[test]
fn features_that_do_not_span_their_dimensions_are_refused_unless_lambda_is_given() {
    let (wide, work, train) = (model("digits"), Cpu::<f32>::new(), rows("digits/train.csv"));
    let narrow = etymon_model::load(work, &reference("digits")).unwrap();
    let repeated: Vec<Example> = (0..6).flat_map(|_| &train[..200]).cloned().collect();
    for (train, dim) in [(&train[..23], 24), (&repeated, 201)] {
        refuses(&wide, train, dim);
        refuses(&narrow, train, dim);
    }
    let json = json!({"model_type": "mlp", "sizes": [64, 10], "activation": "relu", "task": "classification"});
    // 650 weights.
    let linear = Model::new(work, json, 0).unwrap();
    refuses(&linear, &train, 651);
    refuses(&linear, &train, 1024);
}

#[test]
fn scores_are_the_same_to_the_bit_on_one_thread_and_on_three() {
    let model = etymon_model::load::<Cpu<f32>>(Cpu::new(), &reference("lm")).unwrap();
    let (train, queries) = (&rows("lm/train.jsonl")[..100], rows("lm/query.jsonl"));
    let on = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| trak(Trak { dim: 80, ..TRAK }, &[&model], &queries, train, 500))
    };
    assert_eq!(on(1), on(3));
}

#[test]
fn an_example_whose_gradient_is_not_finite_is_named() {
    let model = etymon_model::load::<Cpu<f32>>(Cpu::new(), &reference("digits")).unwrap();
    let (mut train, queries) = (rows("digits/train.csv")[..60].to_vec(), rows("digits/query.csv")[..3].to_vec());
    let Content::Features { values, .. } = &mut train[41].content else { panic!("digits are features") };
    values.fill(3e38);
    let add = |queries: &[Example], train: &[Example]| {
        let mut scores = TrakScores::new(TRAK, queries.len()).unwrap();
        scores.add(&model, queries, train.iter().cloned().map(Ok), limits(7), |_| ()).unwrap_err()
    };
    let error = add(&queries, &train);
    assert!(matches!(&error, AttributionError::ScoreNotFinite { id } if *id == train[41].id), "{error}");
    let error = add(&train[40..42], &queries);
    assert!(matches!(&error, AttributionError::NotFinite { id, .. } if *id == train[41].id), "{error}");
}

#[test]
fn a_train_set_of_another_length_is_refused() {
    let (model, queries, train) = (model("digits"), rows("digits/query.csv"), rows("digits/train.csv"));
    let mut scores = TrakScores::new(TRAK, queries.len()).unwrap();
    assert!(matches!(scores.emit(std::iter::empty(), &mut Scores::new(1)), Err(AttributionError::NoModel)));
    scores.add(&model, &queries, train[..60].iter().cloned().map(Ok), limits(100), |_| ()).unwrap();
    let kept = scores.clone();
    let error = scores.add(&model, &queries, train[..61].iter().cloned().map(Ok), limits(100), |_| ()).unwrap_err();
    assert!(matches!(error, AttributionError::Count { expected: 60, got: 61, .. }), "{error}");
    assert_eq!(scores.score(59, 99), kept.score(59, 99));
    for n in [59, 61] {
        let error = scores.emit(train[..n].iter().cloned().map(Ok), &mut Scores::new(100)).unwrap_err();
        assert!(matches!(error, AttributionError::Count { expected: 60, .. }), "{error}");
    }
}

#[test]
fn impossible_options_are_refused() {
    for bad in [Trak { dim: 0, ..TRAK }, Trak { lambda: -1.0, ..TRAK }, Trak { lambda: f64::NAN, ..TRAK }] {
        assert!(matches!(TrakScores::new(bad, 1), Err(AttributionError::TrakOptions { .. })));
    }
    assert!(matches!(TrakScores::new(TRAK, 0), Err(AttributionError::NoQueries)));
}

#[test]
fn the_bytes_of_the_features_grow_with_train_set_and_dimension() {
    let specs = model("digits").layers().to_vec();
    assert_eq!(trak_bytes(2000, 5, 10, 64, &specs) - trak_bytes(1000, 5, 10, 64, &specs), 1000 * (5 * 64 + 8 * 7));
    assert!(trak_bytes(1000, 5, 10, 128, &specs) > 4 * 1000 * 128);
}
