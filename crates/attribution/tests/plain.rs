//! Scores without gradients: against the packages of the field (scripts/golden_texts.py), and against plain loops.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)] // Helpers of tests are tests.

mod common;

use common::{Scores, limits, reference, rows};
use etymon_attribution::{
    AttributionError, FeatureQueries, FeatureSimilarity, NgramImportance, Result, ScoreSink, gumbel_top_k,
    score_features, score_lexical, score_random,
};
use etymon_data::{Batch, Content, DataError, Example, ExampleIndex, Lexical, LexicalFormula, Padding};
use etymon_model::{Model, load};
use etymon_tensor::Cpu;
use serde_json::Value;

struct Golden {
    json: Value,
    train: Vec<Example>,
    queries: Vec<Example>,
}

fn example(index: usize, id: &str, ids: Vec<u32>, text: &str) -> Example {
    let content = Content::Tokens { ids, loss_start: 1 };
    let index = ExampleIndex(index as u64);
    Example { index, id: id.to_owned(), content, text: text.to_owned(), metadata: serde_json::Map::new() }
}

fn golden() -> Golden {
    let json: Value = serde_json::from_str(include_str!("golden/texts.json")).unwrap();
    let list = |name: &str| {
        let read = |(i, row): (usize, &Value)| {
            let ids = row["input_ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
            example(i, row["id"].as_str().unwrap(), ids, row["text"].as_str().unwrap())
        };
        json[name].as_array().unwrap().iter().enumerate().map(read).collect()
    };
    Golden { train: list("train"), queries: list("queries"), json }
}

fn numbers(value: &Value) -> Vec<f64> {
    match value.as_array() {
        Some(list) => list.iter().flat_map(numbers).collect(),
        None => vec![value.as_f64().unwrap()],
    }
}

fn stream(examples: &[Example]) -> impl Iterator<Item = std::result::Result<Example, DataError>> + Send {
    examples.iter().cloned().map(Ok)
}

/// `[Q, N]` of what goes into the sink.
fn scores(n_queries: usize, run: impl FnOnce(&mut dyn ScoreSink) -> Result<()>) -> Vec<f64> {
    let mut sink = Scores::new(n_queries);
    run(&mut sink).unwrap();
    sink.finish().total
}

fn assert_close(ours: &[f64], theirs: &[f64], tolerance: f64) {
    assert_eq!(ours.len(), theirs.len());
    for (i, (x, y)) in ours.iter().zip(theirs).enumerate() {
        assert!((x - y).abs() <= tolerance * (1.0 + y.abs()), "{i}: {x} {y}");
    }
}

#[test]
fn bm25_is_that_of_rank_bm25_with_the_idf_of_lucene() {
    let Golden { json, train, queries } = golden();
    let lexical = Lexical::count(LexicalFormula::Bm25, &queries, stream(&train)).unwrap();
    let ours = scores(queries.len(), |sink| score_lexical(&lexical, stream(&train), sink));
    assert_close(&ours, &numbers(&json["bm25"]), 1e-6);
    let tfidf = Lexical::count(LexicalFormula::TfIdf, &queries, stream(&train)).unwrap();
    let other = scores(queries.len(), |sink| score_lexical(&tfidf, stream(&train), sink));
    assert!(ours.iter().zip(&other).any(|(x, y)| (x - y).abs() > 0.1), "the two formulas differ");
}

#[test]
fn ngram_weights_are_those_of_data_selection() {
    let Golden { json, train, queries } = golden();
    let each: Vec<&[Example]> = queries.chunks(1).collect();
    let ngrams = NgramImportance::fit(&each, None, stream(&train)).unwrap();
    assert_close(&scores(3, |sink| ngrams.score(stream(&train), sink)), &numbers(&json["dsir"]), 1e-6);
    let joint = NgramImportance::fit(&[&queries], None, stream(&train)).unwrap();
    assert_close(&scores(1, |sink| joint.score(stream(&train), sink)), &numbers(&json["dsir_joint"]), 1e-6);
}

#[test]
fn token_ids_are_words_where_nothing_has_a_text_and_a_mixture_is_refused() {
    let bare = |i: usize, ids: &[u32]| example(i, &format!("t{i}"), ids.to_vec(), "");
    let written = |e: &Example| {
        let text = e.token_ids().iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
        Example { text, ..e.clone() }
    };
    let train = [bare(0, &[1, 2, 3]), bare(1, &[3, 2, 1, 7]), bare(2, &[9, 9])];
    let query = [bare(0, &[1, 2])];
    let by_id = NgramImportance::fit(&[&query], None, stream(&train)).unwrap();
    let by_id = scores(1, |sink| by_id.score(stream(&train), sink));
    let (texts, query_text): (Vec<_>, Vec<_>) =
        (train.iter().map(written).collect(), query.iter().map(written).collect());
    let by_text = NgramImportance::fit(&[&query_text], None, stream(&texts)).unwrap();
    assert_eq!(by_id, scores(1, |sink| by_text.score(stream(&texts), sink)));
    let mixed = NgramImportance::fit(&[&query_text], None, stream(&train));
    assert!(matches!(mixed, Err(AttributionError::NoText { id, .. }) if id == "t0"));
}

#[test]
fn rows_of_features_have_no_text_to_compare() {
    let features = rows("digits/query.csv");
    let Golden { queries, .. } = golden();
    let lexical = Lexical::count(LexicalFormula::Bm25, &queries, stream(&features)).unwrap_err().to_string();
    assert!(lexical.contains("row of features"), "{lexical}");
    let ngrams = NgramImportance::fit(&[&queries], None, stream(&features)).unwrap_err().to_string();
    assert!(ngrams.contains("row of features"), "{ngrams}");
}

#[test]
fn a_draw_by_gumbel_noise_has_the_probabilities_of_the_weights() {
    let weights = [0.7f64.ln(), 0.2f64.ln(), 0.1f64.ln(), f64::NEG_INFINITY];
    let mut pairs = [[0u32; 4]; 4];
    let n = 20_000;
    for seed in 0..n {
        let drawn = gumbel_top_k(&weights, 2, seed);
        pairs[drawn[0]][drawn[1]] += 1;
        assert_eq!(gumbel_top_k(&weights, 1, seed), drawn[..1], "a draw of fewer is its beginning");
    }
    let p: [f64; 3] = [0.7, 0.2, 0.1];
    for (i, row) in pairs.iter().enumerate().take(3) {
        for (j, &count) in row.iter().enumerate().take(3).filter(|&(j, _)| j != i) {
            // Without replacement: p_i, then p_j among what is left.
            let expected = p[i] * p[j] / (1.0 - p[i]);
            let error = (f64::from(count) / n as f64 - expected).abs();
            assert!(error < 5.0 * (expected / n as f64).sqrt(), "{i} {j}: {error}");
        }
    }
}

#[test]
fn chance_is_uniform_and_depends_on_ids_and_seed_alone() {
    let train: Vec<Example> = (0..4000).map(|i| example(i, &format!("t{i}"), vec![1, 2], "")).collect();
    let ids = ["a".to_owned(), "b".to_owned()];
    let all = scores(2, |sink| score_random(1, &ids, stream(&train), sink));
    assert!(all.iter().all(|x| (0.0..1.0).contains(x)));
    let mean = all.iter().sum::<f64>() / all.len() as f64;
    let square = all.iter().map(|x| x * x).sum::<f64>() / all.len() as f64;
    assert!((mean - 0.5).abs() < 0.02 && (square - 1.0 / 3.0).abs() < 0.02, "{mean} {square}");
    let part = scores(1, |sink| score_random(1, &ids[1..], stream(&train[100..103]), sink));
    assert_eq!(part, all[4100..4103], "neither other queries nor other rows matter");
    assert_ne!(part, scores(1, |sink| score_random(2, &ids[1..], stream(&train[100..103]), sink)));
}

#[test]
fn features_are_compared_as_written_whatever_the_batch() {
    let model: Model<Cpu<f32>> = load(Cpu::<f32>::new(), &reference("lm")).unwrap();
    let (train, queries) = (rows("lm/train.jsonl"), rows("lm/query.jsonl"));
    let (train, queries) = (&train[..40], &queries[..4]);
    let feature = |e: &Example| model.features(&Batch::stack(&[e], Padding::None).unwrap()).unwrap().to_vec();
    let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
    let similarity = |kind, x: &[f64], y: &[f64]| match kind {
        FeatureSimilarity::Dot => dot(x, y),
        FeatureSimilarity::Cosine => dot(x, y) / dot(x, x).sqrt() / dot(y, y).sqrt(),
        FeatureSimilarity::L2 => -(dot(x, x) - 2.0 * dot(x, y) + dot(y, y)),
    };
    for kind in [FeatureSimilarity::Dot, FeatureSimilarity::Cosine, FeatureSimilarity::L2] {
        let expected: Vec<f64> = queries
            .iter()
            .flat_map(|q| train.iter().map(move |t| similarity(kind, &feature(q), &feature(t))))
            .collect();
        for max_rows in [64, 4000] {
            let prepared = FeatureQueries::prepare(&model, queries, kind, limits(max_rows)).unwrap();
            let run =
                |sink: &mut dyn ScoreSink| score_features(&model, &prepared, stream(train), limits(max_rows), sink);
            assert_close(&scores(queries.len(), run), &expected, 1e-4);
        }
    }
}
