//! Tokenizers: training, and text to ids and back.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

mod common;

use common::{Folder, LM_TRAIN, bytes_encoder};
use etymon_data::{DataError, END_OF_TEXT, Encoder, train_bpe};
use proptest::prelude::*;

fn trained(vocab_size: usize) -> Encoder {
    train_bpe(LM_TRAIN.lines(), vocab_size, &["<|user|>"]).unwrap()
}

#[test]
fn training_twice_gives_the_same_tokenizer() {
    let json = trained(500).to_json().unwrap();
    for _ in 0..5 {
        assert_eq!(trained(500).to_json().unwrap(), json);
    }
    assert_eq!(Encoder::from_bytes(json.as_bytes()).unwrap().to_json().unwrap(), json);
}

#[test]
fn special_tokens_have_the_first_ids_and_end_of_text_is_zero() {
    let encoder = trained(400);
    assert_eq!(encoder.vocab_size(), 400);
    assert_eq!((encoder.token_id(END_OF_TEXT), encoder.token_id("<|user|>")), (Some(0), Some(1)));
    assert_eq!(encoder.end_of_text(), Some(0));
    assert_eq!(encoder.encode("<|endoftext|>").unwrap(), [0]);
    assert_eq!(encoder.token(1).as_deref(), Some("<|user|>"));
    let text = "And they said, We will call the damsel";
    assert!(encoder.encode(text).unwrap().len() < text.len(), "merges were learned");
}

#[test]
fn a_vocabulary_without_room_for_the_bytes_is_refused() {
    let error = train_bpe(["a"].into_iter(), 257, &["<|user|>"]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "a vocabulary of 257 is too small: 258 ids are needed for the bytes and special tokens"
    );
}

#[test]
fn a_tokenizer_is_read_from_a_file_and_its_padding_is_off() {
    let folder = Folder::new();
    let mut json: serde_json::Value = serde_json::from_str(&bytes_encoder().to_json().unwrap()).unwrap();
    json["truncation"] =
        serde_json::json!({"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0});
    json["padding"] = serde_json::json!({"strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": null,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "<|endoftext|>"});
    let encoder = Encoder::from_file(&folder.write("tokenizer.json", json.to_string())).unwrap();
    assert_eq!(encoder.encode("abc").unwrap().len(), 3);
    assert_eq!(encoder.encode("abcdef").unwrap().len(), 6);
    let broken = Encoder::from_file(&folder.write("broken.json", "{}")).unwrap_err();
    assert!(broken.to_string().contains("broken.json: not a tokenizer: "), "{broken}");
    let missing = Encoder::from_file(&folder.path().join("missing.json"));
    assert!(matches!(missing, Err(DataError::Read { .. })));
}

#[test]
fn what_belongs_around_a_text_is_left_out_of_a_continuation() {
    let mut json: serde_json::Value = serde_json::from_str(&bytes_encoder().to_json().unwrap()).unwrap();
    json["post_processor"] = serde_json::json!({"type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<|endoftext|>": {"id": "<|endoftext|>", "ids": [0], "tokens": ["<|endoftext|>"]}}});
    let encoder = Encoder::from_bytes(json.to_string().as_bytes()).unwrap();
    assert_eq!(encoder.encode("ab").unwrap()[0], 0);
    assert_eq!(encoder.encode("ab").unwrap()[1..], encoder.encode_continuation("ab").unwrap());
}

#[test]
fn a_character_of_several_tokens_is_shown_with_the_last_one() {
    let encoder = bytes_encoder();
    let ids = encoder.encode("aä€b").unwrap();
    assert_eq!(encoder.pieces(&ids).unwrap(), ["a", "", "ä", "", "", "€", "b"]);
    assert_eq!(encoder.pieces(&ids[..2]).unwrap(), ["a", "\u{fffd}"]);
    assert!(encoder.pieces(&[]).unwrap().is_empty());
}

proptest! {
    #[test]
    fn any_text_survives_encoding_and_its_pieces_are_the_text(text in "\\PC{0,60}|[a-z \\n]{0,60}|(And|the| LORD|ä|€){0,20}") {
        let encoder = bytes_encoder();
        let ids = encoder.encode(&text).unwrap();
        prop_assert_eq!(ids.len(), text.len());
        prop_assert_eq!(&encoder.decode(&ids).unwrap(), &text);
        let pieces = encoder.pieces(&ids).unwrap();
        prop_assert_eq!(pieces.len(), ids.len());
        prop_assert_eq!(&pieces.concat(), &text);
    }
}

#[test]
fn trained_merges_survive_encoding_too() {
    let encoder = trained(600);
    for line in LM_TRAIN.lines().chain(["ein ganz anderer Satz: ß, 漢字, 🙂", "  spaces  ", ""]) {
        let ids = encoder.encode(line).unwrap();
        assert_eq!(encoder.decode(&ids).unwrap(), line);
        assert_eq!(encoder.pieces(&ids).unwrap().concat(), line);
    }
}
