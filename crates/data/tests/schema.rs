//! What a row means, whichever columns it has.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

mod common;

use common::{LM_QUERY, LM_TRAIN, bytes_encoder, message, read_jsonl};
use etymon_data::{Content, CorpusOptions, Example, Overlong, Target, Task};

fn one(row: &str) -> Example {
    read_jsonl(row, CorpusOptions::default()).unwrap().remove(0)
}

fn ids(text: &str) -> Vec<u32> {
    bytes_encoder().encode(text).unwrap()
}

#[test]
fn text_is_predicted_from_the_second_token_on() {
    let example = one(r#"{"text": "abc", "topic": {"deep": [1]}, "label": 3}"#);
    assert_eq!(example.content, Content::Tokens { ids: ids("abc"), loss_start: 1 });
    assert_eq!((example.id.as_str(), example.text.as_str()), ("0", "abc"));
    assert_eq!(example.metadata["topic"]["deep"][0], 1);
    assert_eq!(example.metadata["label"], 3);
}

#[test]
fn only_the_completion_of_a_prompt_is_predicted() {
    let example = one(r#"{"prompt": "ab", "completion": "cde", "text": "for reading"}"#);
    assert_eq!(example.content, Content::Tokens { ids: ids("abcde"), loss_start: 2 });
    assert_eq!(example.text, "abcde");
    let empty = one(r#"{"prompt": "", "completion": "cde"}"#);
    assert_eq!(empty.content, Content::Tokens { ids: ids("cde"), loss_start: 1 });
}

#[test]
fn token_ids_win_over_text() {
    let example = one(r#"{"input_ids": [5, 6, 7], "completion_start": 2, "prompt": "a", "completion": "b", "n": 1}"#);
    assert_eq!(example.content, Content::Tokens { ids: vec![5, 6, 7], loss_start: 2 });
    assert_eq!(example.text, "ab");
    assert_eq!(example.metadata.keys().collect::<Vec<_>>(), ["n"]);
    let text = one(r#"{"input_ids": [5, 6], "text": "shown", "prompt": null}"#);
    assert_eq!(text.content, Content::Tokens { ids: vec![5, 6], loss_start: 1 });
    assert_eq!(text.text, "shown");
    assert_eq!(one(r#"{"input_ids": null, "text": "xy"}"#).n_tokens(), 2, "null is absent");
}

#[test]
fn features_come_with_a_class_or_numbers() {
    let class = one(r#"{"features": [0, 1.5], "label": 2, "text": "shown"}"#);
    assert_eq!(class.content, Content::Features { values: vec![0.0, 1.5], target: Target::Class(2) });
    assert_eq!((class.text.as_str(), class.n_rows(), class.n_tokens()), ("shown", 1, 0));
    let number = one(r#"{"features": [1], "target": -0.5}"#);
    assert_eq!(number.content, Content::Features { values: vec![1.0], target: Target::Values(vec![-0.5]) });
    let vector = one(r#"{"features": [1], "target": [1, 2]}"#);
    assert_eq!(vector.content, Content::Features { values: vec![1.0], target: Target::Values(vec![1.0, 2.0]) });
    let both = r#"{"features": [1], "label": 4, "target": 0.5}"#;
    assert_eq!(one(both).metadata["target"], 0.5);
    let regression = CorpusOptions { task: Some(Task::Regression), ..CorpusOptions::default() };
    let both = read_jsonl(both, regression).unwrap().remove(0);
    assert_eq!(both.content, Content::Features { values: vec![1.0], target: Target::Values(vec![0.5]) });
    let named = CorpusOptions { label: Some("y".into()), ..CorpusOptions::default() };
    let named = read_jsonl(r#"{"features": [1], "y": 4}"#, named).unwrap().remove(0);
    assert_eq!(named.content, Content::Features { values: vec![1.0], target: Target::Class(4) });
}

#[test]
fn long_sequences_are_cut_or_refused() {
    let options = |overlong| CorpusOptions { max_tokens: 3, overlong, ..CorpusOptions::default() };
    let cut = read_jsonl(r#"{"text": "abcdef"}"#, options(Overlong::Truncate)).unwrap().remove(0);
    assert_eq!(cut.token_ids(), ids("abc"));
    assert_eq!(cut.text, "abcdef");
    assert_eq!(
        message(read_jsonl(r#"{"text": "abcdef"}"#, options(Overlong::Fail))),
        "data.jsonl:1: 6 tokens, more than 3"
    );
    let lost = read_jsonl(r#"{"prompt": "abc", "completion": "d"}"#, options(Overlong::Truncate));
    let expected = "data.jsonl:1: the completion starts at token 3 of 3 (at most 3 are kept); expected 1..3";
    assert_eq!(message(lost), expected);
}

#[test]
fn a_bad_row_says_what_is_wrong_and_where() {
    let cases = [
        (r#"{"text": "a""#, "not a JSON object: EOF while parsing an object at line 1 column 12"),
        (r#"[1, 2]"#, "not a JSON object: invalid type: sequence, expected a map at line 1 column 0"),
        (
            r#"{"words": "a", "n": 1}"#,
            "none of `input_ids`, `features`, `prompt` + `completion` or `text` is there (columns: words, n)",
        ),
        (r#"{}"#, "none of `input_ids`, `features`, `prompt` + `completion` or `text` is there"),
        (r#"{"prompt": "a"}"#, "`prompt` without `completion`"),
        (r#"{"completion": "a"}"#, "`completion` without `prompt`"),
        (r#"{"features": [1]}"#, "`features` without `label` or `target` (or the column of --label)"),
        (r#"{"text": "a"}"#, "1 tokens: at least 2 are needed"),
        (r#"{"text": 3}"#, "`text` should be text, got 3"),
        (r#"{"text": "ab", "id": 1.5}"#, "`id` should be a string or an integer, got 1.5"),
        (r#"{"input_ids": [1, -2]}"#, "`input_ids[1]` should be a token id, got -2"),
        (r#"{"input_ids": "1 2"}"#, "`input_ids` should be a list of numbers, got \"1 2\""),
        (
            r#"{"input_ids": [1, 2], "completion_start": 2}"#,
            "the completion starts at token 2 of 2 (at most 9 are kept); expected 1..2",
        ),
        (
            r#"{"input_ids": [1, 2], "completion_start": 0}"#,
            "the completion starts at token 0 of 2 (at most 9 are kept); expected 1..2",
        ),
        (r#"{"features": [1, null], "label": 1}"#, "`features[1]` is not a finite number"),
        (r#"{"features": [1e300], "label": 1}"#, "`features[0]` is not a finite number"),
        (r#"{"features": [1], "label": 0.5}"#, "`label` should be a class (0, 1, 2 …), got 0.5"),
        (r#"{"features": [1], "target": "x"}"#, "`target` should be a number, got \"x\""),
    ];
    for (row, expected) in cases {
        let options = CorpusOptions { max_tokens: 9, ..CorpusOptions::default() };
        let rows = format!("{}\n\n{row}\n", r#"{"id": "good", "input_ids": [1, 2]}"#);
        assert_eq!(message(read_jsonl(&rows, options)), format!("data.jsonl:3: {expected}"), "{row}");
    }
}

#[test]
fn rows_of_features_are_equally_wide() {
    let rows = "{\"features\": [1, 2], \"label\": 0}\n{\"features\": [1], \"label\": 0}";
    let got = message(read_jsonl(rows, CorpusOptions::default()));
    assert_eq!(got, "data.jsonl:2: 1 features, the first row has 2");
}

#[test]
fn the_rows_of_the_reference_language_model_are_read_as_they_are() {
    let options = || CorpusOptions { max_tokens: 64, vocab: Some(512), ..CorpusOptions::default() };
    let train = read_jsonl(LM_TRAIN, options()).unwrap();
    assert_eq!(train.iter().map(|e| e.id.as_str()).collect::<Vec<_>>(), ["v000", "v001", "v002"]);
    assert_eq!((train[1].n_tokens(), train[1].n_rows(), train[1].n_loss_rows()), (29, 28, 28));
    assert_eq!(train[1].token_ids()[..3], [295, 335, 387]);
    assert_eq!(train[1].text, "And they said, We will call the damsel, and enquire at her mouth.");
    assert!(train[0].metadata.is_empty());
    let queries = read_jsonl(LM_QUERY, options()).unwrap();
    for query in &queries {
        assert!(query.n_loss_rows() < query.n_rows(), "the prompt is not predicted");
        assert!(query.text.contains(' '));
    }
    let too_small = CorpusOptions { vocab: Some(300), ..options() };
    let got = message(read_jsonl(LM_TRAIN, too_small));
    assert_eq!(got, "data.jsonl:1: vocabulary mismatch: token id 491, but the model has ids 0..300");
}
