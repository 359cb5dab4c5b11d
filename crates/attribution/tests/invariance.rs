//! Scores and factors do not depend on how the work is cut.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)] // Helpers of tests are tests.

mod common;

use std::sync::OnceLock;

use common::{Fitted, fit, limits, prepare, reference, relative_error, rows, score_all};
use etymon_attribution::{Parts, Queries, Rank, score_batch};
use etymon_curvature::{Damping, Preconditioner, Spectrum};
use etymon_data::{Example, Padding};
use etymon_model::{Model, Objective, load};
use etymon_tensor::Cpu;
use proptest::prelude::*;

type Work = Cpu<f32>;

/// Model, train rows, prepared queries and their scores in one go.
struct Setting {
    model: Model<Work>,
    train: Vec<Example>,
    fitted: Fitted,
    queries: Queries<Work>,
    scores: Vec<f64>,
}

fn setting() -> &'static Setting {
    static SETTING: OnceLock<Setting> = OnceLock::new();
    SETTING.get_or_init(|| {
        let model: Model<Work> = load(Work::new(), &reference("lm")).unwrap();
        let train = rows("lm/train.jsonl")[..60].to_vec();
        let fitted = fit(&model, &train, Objective::SampledLoss { seed: 1 }, limits(5000), 1, Padding::None);
        let queries = prepare(&model, &rows("lm/query.jsonl"), ekfac(&fitted), Rank::Full);
        let scores = score_all(&model, &queries, &train, limits(5000), Parts::default()).total;
        Setting { model, train, fitted, queries, scores }
    })
}

fn ekfac(fitted: &Fitted) -> Preconditioner<'_> {
    Preconditioner::Kronecker { factors: &fitted.factors, spectrum: Spectrum::Corrected, damping: Damping::default() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn scores_do_not_depend_on_batch_size_or_threads(rows in 1usize..900, threads in 1usize..4) {
        let s = setting();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let scores = pool.install(|| score_all(&s.model, &s.queries, &s.train, limits(rows), Parts::default())).total;
        prop_assert!(relative_error(&scores, &s.scores) < 1e-5);
    }

    #[test]
    fn scores_do_not_depend_on_padding(longer in 0usize..40) {
        let s = setting();
        let mut sink = common::Scores::new(s.queries.len());
        score_batch(&s.model, &s.queries, &s.train, Padding::To(63 + longer), Parts::default(), &mut sink).unwrap();
        prop_assert!(relative_error(&sink.finish().total, &s.scores) < 1e-5);
    }

    #[test]
    fn factors_do_not_depend_on_shards_batches_or_padding(shards in 2usize..9, rows in 64usize..900, pad in any::<bool>()) {
        let s = setting();
        let padding = if pad { Padding::To(70) } else { Padding::None };
        let cut = fit(&s.model, &s.train, Objective::SampledLoss { seed: 1 }, limits(rows), shards, padding);
        for (x, y) in cut.covariances.layers.iter().zip(&s.fitted.covariances.layers) {
            prop_assert_eq!(x.rows, y.rows);
            prop_assert!(relative_error(&x.a, &y.a) < 1e-6);
            prop_assert!(relative_error(&x.s, &y.s) < 1e-6);
        }
        // Λ of both in the eigenbases of the whole: eigenvectors of close eigenvalues may turn.
        for (x, y) in cut.corrections.layers.iter().zip(&s.fitted.corrections.layers) {
            let (x, y): (f64, f64) = (x.iter().sum(), y.iter().sum());
            prop_assert!((x - y).abs() < 1e-5 * y.abs());
        }
    }
}

#[test]
fn one_shard_or_seven_give_the_same_factors_to_a_millionth() {
    let s = setting();
    let seven = fit(&s.model, &s.train, Objective::SampledLoss { seed: 1 }, limits(400), 7, Padding::None);
    for (x, y) in seven.covariances.layers.iter().zip(&s.fitted.covariances.layers) {
        assert!(relative_error(&x.a, &y.a) < 1e-6 && relative_error(&x.s, &y.s) < 1e-6);
    }
}

#[test]
fn a_query_scores_its_own_training_row_like_its_self_influence() {
    let s = setting();
    let prepared = prepare(&s.model, &s.train[..12], ekfac(&s.fitted), Rank::Full);
    let scores = score_all(&s.model, &prepared, &s.train[..12], limits(500), Parts::default()).total;
    let mut sink = common::Scores::new(1);
    let rows = s.train[..12].iter().cloned().map(Ok);
    etymon_attribution::self_influence(&s.model, ekfac(&s.fitted), rows, limits(500), &mut sink).unwrap();
    let selves = sink.finish().total;
    for (i, own) in selves.iter().enumerate() {
        assert!((scores[i * 12 + i] - own).abs() < 1e-4 * own, "row {i}: {} against {own}", scores[i * 12 + i]);
        assert!(*own > 0.0);
    }
}
