//! Reading as a stream: several files, bad rows, duplicates, packing, starting in the middle.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

mod common;

use std::path::PathBuf;

use common::{Folder, bytes_encoder, gzip, message, open, read_jsonl};
use etymon_data::{
    BadRows, BatchLimits, Batches, Content, Corpus, CorpusOptions, DataError, Example, ExampleIndex, Examples, Packing,
};
use proptest::prelude::*;

fn rows(n: usize, first: usize) -> String {
    (first..first + n).map(|i| format!("{{\"input_ids\": [{i}, 1, 2], \"id\": \"r{i}\"}}\n")).collect()
}

fn skipping() -> CorpusOptions {
    CorpusOptions { bad_rows: BadRows::Skip, ..CorpusOptions::default() }
}

fn packing(max_tokens: usize, eos: Option<u32>) -> CorpusOptions {
    CorpusOptions { packing: Packing::Pack { eos }, max_tokens, ..CorpusOptions::default() }
}

#[test]
fn a_corpus_is_shared_and_its_stream_moved_between_threads() {
    fn shared<T: Send + Sync>() {}
    fn moved<T: Send>() {}
    shared::<Corpus>();
    moved::<Examples>();
}

#[test]
fn several_files_are_one_corpus() {
    let folder = Folder::new();
    let paths = [
        folder.write("a.jsonl", rows(700, 0)),
        folder.write("empty.jsonl", ""),
        folder.write("b.jsonl.gz", gzip(rows(5, 700))),
    ];
    let corpus = open(&paths, None, CorpusOptions::default()).unwrap();
    let mut examples = corpus.examples();
    for (i, example) in examples.by_ref().enumerate() {
        let example = example.unwrap();
        assert_eq!(example.index, ExampleIndex(i as u64));
        assert_eq!(example.id, format!("r{i}"));
        assert_eq!(example.token_ids()[0], i as u32);
    }
    assert_eq!((examples.counts().rows_read, examples.counts().examples), (705, 705));
    assert!(examples.next().is_none());
}

#[test]
fn the_second_of_two_rows_with_one_id_is_an_error() {
    let folder = Folder::new();
    let file = |name: &str, text: &str| folder.write(name, text);
    let own = r#"{"input_ids": [1, 2], "id": "x"}"#;
    let number = r#"{"input_ids": [1, 2], "id": 1}"#;
    let none = r#"{"input_ids": [1, 2]}"#;
    let cases: [(&[PathBuf], &str); 3] = [
        (&[file("a.jsonl", own), file("b.jsonl", &format!("\n{own}"))], "b.jsonl:2: id `x` is already taken by"),
        (&[file("c.jsonl", &format!("{none}\n\n{none}\n{number}"))], "c.jsonl:4: id `1` is already taken by"),
        (&[file("d.jsonl", &format!("{number}\n{none}"))], "d.jsonl:2: id `1` is already taken by"),
    ];
    let firsts = ["a.jsonl:1", "c.jsonl:3", "d.jsonl:1"];
    for ((paths, second), first) in cases.into_iter().zip(firsts) {
        for options in [CorpusOptions::default(), skipping()] {
            let error = open(paths, None, options).unwrap().read_all().unwrap_err().to_string();
            assert!(error.contains(second) && error.ends_with(first), "{error}");
        }
    }
}

#[test]
fn bad_rows_are_skipped_and_counted_with_the_first_reasons() {
    let folder = Folder::new();
    let mut text = rows(300, 0);
    text += "not json\n{\"input_ids\": [1]}\n";
    text += &rows(2, 300);
    text += &"{}\n".repeat(10);
    let corpus = open(&[folder.write("a.jsonl", &text)], None, skipping()).unwrap();
    let mut examples = corpus.examples();
    let kept: Vec<Example> = examples.by_ref().collect::<Result<_, _>>().unwrap();
    assert_eq!(kept.len(), 302);
    assert_eq!((kept[300].index, kept[300].id.as_str()), (ExampleIndex(300), "r300"));
    let counts = examples.counts();
    assert_eq!((counts.rows_read, counts.examples, counts.skipped), (314, 302, 12));
    assert_eq!(counts.reasons.len(), 5);
    assert!(counts.reasons[0].contains("a.jsonl:301: not a JSON object"));
    assert!(counts.reasons[1].ends_with("a.jsonl:302: 1 tokens: at least 2 are needed"));
}

#[test]
fn the_examples_before_an_error_are_given_and_none_after() {
    let folder = Folder::new();
    let text = rows(3, 0) + "broken\n" + &rows(3, 3);
    let corpus = open(&[folder.write("a.jsonl", text)], None, CorpusOptions::default()).unwrap();
    let read: Vec<bool> = corpus.examples().map(|example| example.is_ok()).collect();
    assert_eq!(read, [true, true, true, false]);
}

#[test]
fn an_empty_data_set_is_an_error() {
    let folder = Folder::new();
    let blank = folder.write("blank.jsonl", "\n \n");
    let got = message(open(&[blank], None, CorpusOptions::default()));
    assert_eq!(got, "blank.jsonl: the data set is empty (0 rows read, 0 of them bad)");
    let got = message(open(&[folder.write("head.csv", "a,b\n")], None, CorpusOptions::default()));
    assert_eq!(got, "head.csv: the data set is empty (0 rows read, 0 of them bad)");
    assert_eq!(
        message(read_jsonl("{}\n{}", skipping())),
        "data.jsonl: the data set is empty (2 rows read, 2 of them bad)"
    );
    let missing = open(&[PathBuf::from("/no/such/file.jsonl")], None, CorpusOptions::default());
    assert!(matches!(missing, Err(DataError::Read { .. })));
}

#[test]
fn text_without_a_tokenizer_is_an_error_even_where_bad_rows_are_skipped() {
    let folder = Folder::new();
    let path = folder.write("a.jsonl", "{\"text\": \"abc\"}");
    let got = message(open(&[path], None, skipping()).unwrap().read_all());
    assert_eq!(got, "a.jsonl:1: `text` has to be tokenized, but there is no tokenizer");
}

#[test]
fn a_broken_archive_is_an_error_that_names_the_file() {
    let folder = Folder::new();
    let whole = gzip(rows(2000, 0));
    let path = folder.write("cut.jsonl.gz", &whole[..whole.len() / 2]);
    let got = message(open(&[path], None, skipping()).unwrap().read_all());
    assert!(got.starts_with("cut.jsonl.gz: cannot be read: "), "{got}");
}

#[test]
fn truncated_sequences_are_counted() {
    let folder = Folder::new();
    let path = folder.write("a.txt", "abcdef\nab\nabcd\n");
    let options = CorpusOptions { max_tokens: 3, ..CorpusOptions::default() };
    let corpus = open(&[path], Some(bytes_encoder()), options).unwrap();
    let mut examples = corpus.examples();
    assert_eq!(examples.by_ref().map(|e| e.unwrap().n_tokens()).collect::<Vec<_>>(), [3, 2, 3]);
    assert_eq!(examples.counts().truncated, 2);
    let too_few = CorpusOptions { max_tokens: 1, ..CorpusOptions::default() };
    assert!(matches!(open(&[], None, too_few), Err(DataError::MaxTokens { least: 2, .. })));
}

#[test]
fn packs_hold_text_and_the_ids_of_their_documents() {
    let folder = Folder::new();
    let path = folder.write("a.jsonl", "{\"id\": \"p\", \"text\": \"abc\"}\n{\"id\": \"q\", \"text\": \"defgh\"}\n");
    let corpus = open(&[path], Some(bytes_encoder()), packing(6, Some(0))).unwrap();
    let packs = corpus.read_all().unwrap();
    assert_eq!(packs.len(), 2);
    assert_eq!((packs[0].text.as_str(), packs[1].text.as_str()), ("abc<|endoftext|>de", "fgh<|endoftext|>"));
    assert_eq!(packs[0].metadata["documents"], serde_json::json!(["p", "q"]));
    assert_eq!(packs[1].metadata["documents"], serde_json::json!(["q"]));
    assert_eq!((packs[1].id.as_str(), packs[1].index), ("pack-1", ExampleIndex(1)));
}

#[test]
fn completions_and_features_cannot_be_packed() {
    let completion = message(read_jsonl("{\"prompt\": \"ab\", \"completion\": \"c\"}", packing(8, None)));
    assert!(completion.starts_with("data.jsonl:1: a completion after a prompt cannot be packed"), "{completion}");
    let features = message(read_jsonl("{\"features\": [1], \"label\": 0}", packing(8, None)));
    assert!(features.starts_with("data.jsonl:1: a row of features cannot be packed"), "{features}");
}

fn corpus_of(documents: &[Vec<u32>], options: CorpusOptions) -> (Folder, Corpus) {
    let folder = Folder::new();
    let text: String = documents.iter().map(|ids| format!("{{\"input_ids\": {ids:?}}}\n")).collect();
    let path = folder.write("a.jsonl", text);
    let corpus = open(&[path], None, options).unwrap();
    (folder, corpus)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn packing_keeps_the_stream_of_tokens(
        documents in prop::collection::vec(prop::collection::vec(1u32..50, 1..40), 1..30),
        max_tokens in 3usize..30,
        eos in prop::option::of(Just(0u32)),
    ) {
        let stream: Vec<u32> = documents.iter().flat_map(|ids| ids.iter().copied().chain(eos)).collect();
        prop_assume!(stream.len() >= 2);
        let (_folder, corpus) = corpus_of(&documents, packing(max_tokens, eos));
        let packs = corpus.read_all().unwrap();
        let packed: Vec<u32> = packs.iter().flat_map(|pack| pack.token_ids().to_vec()).collect();
        prop_assert_eq!(packed, stream);
        for (i, pack) in packs.iter().enumerate() {
            prop_assert!(pack.n_tokens() >= 2 && pack.n_tokens() <= max_tokens);
            prop_assert!(i + 2 >= packs.len() || pack.n_tokens() == max_tokens);
            let all_predicted = matches!(pack.content, Content::Tokens { loss_start: 1, .. });
            prop_assert!(all_predicted);
        }
    }

    #[test]
    fn starting_at_an_index_is_skipping_the_examples_before(
        lengths in prop::collection::vec(1usize..9, 2..400),
        first in 0u64..450,
        mode in 0..3,
    ) {
        let mut documents: Vec<Vec<u32>> = lengths.iter().enumerate().map(|(i, &n)| vec![i as u32; n]).collect();
        documents[0] = vec![1, 2];
        let options = match mode {
            0 => skipping(),
            1 => packing(5, Some(9)),
            _ => {
                documents.retain(|ids| ids.len() > 1);
                CorpusOptions::default()
            }
        };
        let (_folder, corpus) = corpus_of(&documents, options);
        let all: Vec<Example> = corpus.read_all().unwrap();
        let skipped: Vec<Example> = all.into_iter().skip(first as usize).collect();
        let started: Vec<Example> = corpus.examples_from(ExampleIndex(first)).collect::<Result<_, _>>().unwrap();
        prop_assert_eq!(&started, &skipped);
        let here = corpus.examples_from(ExampleIndex(first)).on_this_thread();
        prop_assert_eq!(here.collect::<Result<Vec<_>, _>>().unwrap(), skipped);
    }

    #[test]
    fn batches_keep_the_order_and_their_limits(
        lengths in prop::collection::vec(2usize..40, 1..60),
        max_rows in 1usize..60,
        max_examples in 1usize..8,
    ) {
        let documents: Vec<Vec<u32>> = lengths.iter().map(|&n| vec![7; n]).collect();
        let (_folder, corpus) = corpus_of(&documents, CorpusOptions::default());
        let limits = BatchLimits { max_rows, max_examples };
        let batches: Vec<Vec<Example>> = Batches::new(corpus.examples(), limits).collect::<Result<_, _>>().unwrap();
        let rows = |batch: &[Example]| batch.iter().map(Example::n_rows).sum::<usize>();
        for (batch, next) in batches.iter().zip(batches.iter().skip(1)) {
            let full = batch.len() == max_examples || rows(batch) + next[0].n_rows() > max_rows;
            prop_assert!(full, "a batch is closed only when the next example does not fit");
        }
        prop_assert!(batches.iter().all(|b| b.len() == 1 || (rows(b) <= max_rows && b.len() <= max_examples)));
        prop_assert_eq!(batches.concat(), corpus.read_all().unwrap());
    }
}

#[test]
fn batches_give_the_examples_before_an_error_first() {
    let folder = Folder::new();
    let text = rows(3, 0) + "broken\n" + &rows(3, 3);
    let corpus = open(&[folder.write("a.jsonl", text)], None, CorpusOptions::default()).unwrap();
    let limits = BatchLimits { max_rows: 4, max_examples: 9 };
    let mut batches = Batches::new(corpus.examples(), limits);
    let sizes: Vec<Option<usize>> = batches.by_ref().map(|batch| batch.ok().map(|b| b.len())).collect();
    assert_eq!(sizes, [Some(2), Some(1), None]);
    assert_eq!(batches.inner().counts().examples, 3);
}
