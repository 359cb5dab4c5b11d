//! The TF-IDF filter against its formula, written as a plain loop.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

mod common;

use common::{Folder, open, tokens};
use etymon_data::{CandidateFilter, Corpus, CorpusOptions, DataError, Example, ExampleIndex, union_of};
use proptest::prelude::*;

fn corpus(documents: &[Vec<u32>]) -> (Folder, Corpus) {
    let folder = Folder::new();
    let text: String = documents.iter().map(|ids| format!("{{\"input_ids\": {ids:?}}}\n")).collect();
    let path = folder.write("a.jsonl", text);
    let corpus = open(&[path], None, CorpusOptions::default()).unwrap();
    (folder, corpus)
}

fn score_ref(query: &[u32], document: &[u32], documents: &[Vec<u32>]) -> f64 {
    let n = documents.len() as f64;
    let mut score = 0.0;
    for t in query {
        let exists = if document.contains(t) { 1.0 } else { 0.0 };
        let count = documents.iter().filter(|d| d.contains(t)).count() as f64;
        score += (1.5 + 1.0) * exists / (1.5 + exists) * ((n - count + 0.5) / (count + 0.5) + 1.0).ln();
    }
    score
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_kept_examples_are_the_best_of_a_plain_loop(
        documents in prop::collection::vec(prop::collection::vec(0u32..40, 2..20), 1..60),
        queries in prop::collection::vec(prop::collection::vec(0u32..45, 2..12), 1..4),
        keep in 0usize..70,
    ) {
        let (_folder, corpus) = corpus(&documents);
        let examples: Vec<Example> = queries.iter().enumerate().map(|(i, ids)| tokens(i as u64, ids, 1)).collect();
        let ranked = CandidateFilter::tfidf(keep).rank(&corpus, &examples).unwrap();
        let selected = CandidateFilter::tfidf(keep).select(&corpus, &examples).unwrap();
        prop_assert_eq!(ranked.len(), queries.len());
        for ((query, ranked), selected) in queries.iter().zip(&ranked).zip(&selected) {
            let scores: Vec<f64> = documents.iter().map(|document| score_ref(query, document, &documents)).collect();
            prop_assert_eq!(ranked.len(), keep.min(documents.len()));
            for candidate in ranked {
                prop_assert!((candidate.score - scores[candidate.index.0 as usize]).abs() < 1e-9);
            }
            for pair in ranked.windows(2) {
                let ordered = pair[0].score > pair[1].score
                    || (pair[0].score == pair[1].score && pair[0].index < pair[1].index);
                prop_assert!(ordered);
            }
            let mut kept: Vec<ExampleIndex> = ranked.iter().map(|candidate| candidate.index).collect();
            let worst = ranked.last().map_or(f64::INFINITY, |candidate| candidate.score);
            for (i, score) in scores.iter().enumerate() {
                let is_kept = kept.contains(&ExampleIndex(i as u64));
                prop_assert!(is_kept || *score <= worst + 1e-9 || keep == 0);
            }
            kept.sort_unstable();
            prop_assert_eq!(&kept, selected);
        }
    }
}

#[test]
fn of_equal_scores_the_smaller_index_is_kept() {
    let (_folder, corpus) = corpus(&[vec![9, 9], vec![1, 2], vec![2, 1, 1], vec![1, 2, 7]]);
    let ranked = CandidateFilter::tfidf(2).rank(&corpus, &[tokens(0, &[1, 2, 3], 2)]).unwrap();
    assert_eq!(ranked[0].iter().map(|candidate| candidate.index.0).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn repeated_tokens_of_the_query_count_repeatedly_and_those_of_a_document_once() {
    let (_folder, corpus) = corpus(&[vec![1, 5], vec![2, 2, 2, 6]]);
    let best = |query: &[u32]| CandidateFilter::tfidf(1).select(&corpus, &[tokens(0, query, 1)]).unwrap()[0][0];
    assert_eq!(best(&[1, 1, 2]), ExampleIndex(0));
    assert_eq!(best(&[1, 2, 2]), ExampleIndex(1));
}

#[test]
fn the_union_of_several_queries_is_ascending_and_without_repetition() {
    let indices = |list: &[u64]| list.iter().map(|&i| ExampleIndex(i)).collect::<Vec<_>>();
    assert_eq!(union_of(&[indices(&[2, 5]), indices(&[1, 5])]), indices(&[1, 2, 5]));
}

#[test]
fn rows_of_features_have_no_tokens_to_filter_by() {
    let folder = Folder::new();
    let path = folder.write("a.csv", "a,b\n1,2\n");
    let corpus = open(&[path], None, CorpusOptions::default()).unwrap();
    let result = CandidateFilter::tfidf(1).select(&corpus, &[tokens(0, &[1, 2], 1)]);
    assert!(matches!(result, Err(DataError::NotTokens { .. })));
}
