//! Scores and factors do not depend on how the work is cut.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)] // Helpers of tests are tests.

mod common;

use std::sync::OnceLock;

use common::{Fitted, fit, limits, prepare, reference, relative_error, rows, score_all};
use etymon_attribution::{AttributionError, Parts, Queries, Rank, Result, ScoreBlock, ScoreSink, score_batch};
use etymon_curvature::{Covariances, Damping, Factors, Preconditioner, Spectrum, eigendecompose};
use etymon_data::{BatchLimits, Content, DataError, Example, Padding};
use etymon_model::{LayerId, Model, Objective, load};
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

/// Every row alone, without windows: what the pass must give in this order.
fn one_by_one(s: &Setting, train: &[Example], parts: Parts) -> common::Scores {
    let mut sink = common::Scores::new(s.queries.len());
    for example in train {
        score_batch(&s.model, &s.queries, std::slice::from_ref(example), Padding::None, parts, &mut sink).unwrap();
    }
    sink.finish()
}

/// Notes the ids that come by.
#[derive(Default)]
struct Ids(Vec<String>);

impl ScoreSink for Ids {
    fn block(&mut self, block: &ScoreBlock<'_>) -> Result<()> {
        self.0.extend(block.examples.iter().map(|e| e.id.clone()));
        Ok(())
    }
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
    fn scores_come_in_the_order_of_the_train_set_however_it_is_cut(rows in 1usize..900, most in 1usize..40) {
        let s = setting();
        let limits = BatchLimits { max_rows: rows, max_examples: most };
        let alone = one_by_one(s, &s.train, Parts::default()).total;
        let scores = score_all(&s.model, &s.queries, &s.train, limits, Parts::default()).total;
        prop_assert!(relative_error(&scores, &alone) < 1e-5);
        let mut selves = (common::Scores::new(1), common::Scores::new(1));
        for (limits, sink) in [(limits, &mut selves.0), (common::limits(1), &mut selves.1)] {
            let train = s.train.iter().cloned().map(Ok);
            etymon_attribution::self_influence(&s.model, ekfac(&s.fitted), train, limits, sink).unwrap();
        }
        prop_assert!(relative_error(&selves.0.finish().total, &selves.1.finish().total) < 1e-5);
    }

    #[test]
    fn parts_of_scores_come_in_the_order_of_the_train_set(rows in 1usize..900) {
        let s = setting();
        let parts = Parts { layers: true, tokens: true };
        let (train, limits) = (&s.train[..20], limits(rows));
        let alone = one_by_one(s, train, parts);
        let scores = score_all(&s.model, &s.queries, train, limits, parts);
        prop_assert!(relative_error(&scores.token_sums, &alone.token_sums) < 1e-5);
        prop_assert_eq!(scores.layers.len(), alone.layers.len());
        for (layer, alone) in scores.layers.iter().zip(&alone.layers) {
            prop_assert!(relative_error(layer, alone) < 1e-5);
        }
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
fn scores_of_groups_of_layers_add_up_to_those_of_all_layers() {
    let s = setting();
    let parts = Parts { layers: true, tokens: true };
    let (train, n) = (&s.train[..20], s.model.layers().len());
    let whole = score_all(&s.model, &s.queries, train, limits(300), parts);
    let spectrum = |i| s.fitted.factors.spectrum(LayerId(i), Spectrum::Corrected).unwrap();
    for size in [1, 3, 5] {
        let (mut total, mut tokens, mut layers) = (vec![0.0; 160], vec![0.0; 160], Vec::new());
        for start in (0..n).step_by(size) {
            let end = (start + size).min(n);
            let part = s.model.with_layers(start..end);
            let lambda = (start..end).map(spectrum).collect();
            let bases = eigendecompose(cut(&s.fitted.covariances, start..end), part.layers(), |_| ()).unwrap();
            let factors = Factors::new(part.layers().to_vec(), bases, Some(lambda));
            let damped = Preconditioner::Kronecker {
                factors: &factors,
                spectrum: Spectrum::Corrected,
                damping: Damping::default(),
            };
            let queries = prepare(&part, &rows("lm/query.jsonl"), damped, Rank::Full);
            let scores = score_all(&part, &queries, train, limits(300), parts);
            total.iter_mut().zip(&scores.total).for_each(|(sum, x)| *sum += x);
            tokens.iter_mut().zip(&scores.token_sums).for_each(|(sum, x)| *sum += x);
            layers.extend(scores.layers);
        }
        assert!(relative_error(&total, &whole.total) < 1e-6, "groups of {size}");
        assert!(relative_error(&tokens, &whole.token_sums) < 1e-6, "groups of {size}");
        assert_eq!(layers.len(), n);
        for (x, y) in layers.iter().zip(&whole.layers) {
            assert!(relative_error(x, y) < 1e-6, "groups of {size}");
        }
    }
}

/// The covariances of some layers.
fn cut(all: &Covariances, range: std::ops::Range<usize>) -> Covariances {
    Covariances { layers: all.layers[range].to_vec(), examples: all.examples }
}

#[test]
fn an_error_in_the_stream_comes_after_the_scores_of_the_rows_before_it() {
    let s = setting();
    for limits in [limits(150), limits(5000)] {
        let error = DataError::Empty { what: "row 31".to_owned(), rows_read: 0, skipped: 0 };
        let rows = s.train[..30].iter().cloned().map(Ok).chain([Err(error)]);
        let rows = rows.chain(s.train[30..].iter().cloned().map(Ok));
        let mut ids = Ids::default();
        let result = etymon_attribution::score(&s.model, &s.queries, rows, limits, Parts::default(), &mut ids);
        assert!(matches!(&result, Err(AttributionError::Data(DataError::Empty { what, .. })) if what == "row 31"));
        assert_eq!(ids.0, s.train[..30].iter().map(|e| e.id.clone()).collect::<Vec<_>>());
    }
}

#[test]
fn a_stream_that_panics_is_an_error_of_the_pass() {
    let s = setting();
    let rows = s.train.iter().enumerate().map(|(i, e)| if i == 9 { panic!("row nine") } else { Ok(e.clone()) });
    let result =
        etymon_attribution::score(&s.model, &s.queries, rows, limits(200), Parts::default(), &mut Ids::default());
    assert!(matches!(&result, Err(AttributionError::Data(DataError::Panic { message })) if message == "row nine"));
}

#[test]
fn a_row_that_the_model_does_not_take_is_refused_by_its_name() {
    let s = setting();
    let mut train = s.train.clone();
    train[17].content = Content::Tokens { ids: vec![1, 2, 512], loss_start: 1 };
    let rows = train.iter().cloned().map(Ok);
    let result =
        etymon_attribution::score(&s.model, &s.queries, rows, limits(300), Parts::default(), &mut Ids::default());
    assert!(matches!(&result, Err(AttributionError::Example { id, .. }) if *id == train[17].id));
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
