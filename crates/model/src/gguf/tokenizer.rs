//! A Hugging Face tokenizer.json from the tokenizer tables in the metadata.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::GgufError;
use super::metadata::Metadata;

const MODEL: &str = "tokenizer.ggml.model";
const PRE: &str = "tokenizer.ggml.pre";
const TOKENS: &str = "tokenizer.ggml.tokens";
const TYPES: &str = "tokenizer.ggml.token_type";
const MERGES: &str = "tokenizer.ggml.merges";

/// `tokenizer.ggml.token_type`: unknown and control tokens are special, user-defined ones are whole but ordinary text.
const UNKNOWN: i64 = 2;
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;
const UNUSED: i64 = 5;

/// How Llama 3 splits text, and Qwen2 (one digit at a time), as their tokenizer.json do.
const LLAMA3_SPLIT: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2_SPLIT: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// How text is split before byte-pair encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pre {
    Gpt2,
    SmolLm,
    Llama3,
    Qwen2,
}

impl Pre {
    fn read(meta: &Metadata) -> Result<Self, GgufError> {
        match meta.text(PRE)?.unwrap_or("default") {
            "default" | "gpt-2" => Ok(Self::Gpt2),
            "smollm" => Ok(Self::SmolLm),
            "llama-bpe" | "llama3" | "llama-v3" => Ok(Self::Llama3),
            "qwen2" => Ok(Self::Qwen2),
            other => Err(unsupported(meta, PRE, other, "gpt-2 (or default), smollm, llama-bpe and qwen2")),
        }
    }

    fn pre_tokenizer(self) -> Value {
        let bytes = |use_regex: bool| json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex });
        let sequence = |first: Value, then: Value| json!({ "type": "Sequence", "pretokenizers": [first, then] });
        let split = |regex: &str| {
            let first =
                json!({ "type": "Split", "pattern": { "Regex": regex }, "behavior": "Isolated", "invert": false });
            sequence(first, bytes(false))
        };
        match self {
            Self::Gpt2 => bytes(true),
            Self::SmolLm => sequence(json!({ "type": "Digits", "individual_digits": true }), bytes(true)),
            Self::Llama3 => split(LLAMA3_SPLIT),
            Self::Qwen2 => split(QWEN2_SPLIT),
        }
    }
}

/// The tokenizer.json.
pub(super) fn build(meta: &Metadata) -> Result<Value, GgufError> {
    let model = meta.text(MODEL)?.ok_or_else(|| meta.missing(MODEL))?;
    if model != "gpt2" {
        return Err(unsupported(meta, MODEL, model, "gpt2 (byte-level byte-pair encoding)"));
    }
    let pre = Pre::read(meta)?;
    let tokens = meta.texts(TOKENS)?.ok_or_else(|| meta.missing(TOKENS))?;
    let types = meta.integers(TYPES)?.unwrap_or_default();
    let ids = vocabulary(meta, tokens, &types)?;
    let merges = merges(meta, &ids)?;
    let vocab: Map<String, Value> =
        tokens.iter().filter_map(|t| ids.get(t.as_str()).map(|&id| (t.clone(), id.into()))).collect();
    let normalizer = if pre == Pre::Qwen2 { json!({ "type": "NFC" }) } else { Value::Null };
    Ok(json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added_tokens(tokens, &types),
        "normalizer": normalizer,
        "pre_tokenizer": pre.pre_tokenizer(),
        "post_processor": post_processor(meta, pre, tokens)?,
        "decoder": { "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true },
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": pre == Pre::Llama3,
            "vocab": vocab,
            "merges": merges,
        },
    }))
}

/// Ids by token, without the rows that only pad the embedding to a round size.
fn vocabulary<'a>(meta: &Metadata, tokens: &'a [String], types: &[i64]) -> Result<HashMap<&'a str, usize>, GgufError> {
    let mut ids = HashMap::with_capacity(tokens.len());
    for (id, token) in tokens.iter().enumerate() {
        if types.get(id) == Some(&UNUSED) && *token == format!("[PAD{id}]") {
            continue;
        }
        if let Some(earlier) = ids.insert(token.as_str(), id) {
            return Err(bad_row(meta, TOKENS, id, format!("`{token}` is also token {earlier}")));
        }
    }
    Ok(ids)
}

/// Merges as pairs, each checked against the vocabulary.
fn merges(meta: &Metadata, ids: &HashMap<&str, usize>) -> Result<Vec<[String; 2]>, GgufError> {
    let lines = meta.texts(MERGES)?.ok_or_else(|| meta.missing(MERGES))?;
    let pair = |(index, line): (usize, &String)| {
        let (left, right) = line
            .split_once(' ')
            .filter(|(left, right)| !left.is_empty() && !right.is_empty())
            .ok_or_else(|| bad_row(meta, MERGES, index, format!("`{line}` is not two tokens")))?;
        match [left, right, &format!("{left}{right}")].iter().find(|part| !ids.contains_key(**part)) {
            Some(part) => Err(bad_row(meta, MERGES, index, format!("`{part}` of `{line}` is not a token"))),
            None => Ok([left.to_owned(), right.to_owned()]),
        }
    };
    lines.iter().enumerate().map(pair).collect()
}

fn added_tokens(tokens: &[String], types: &[i64]) -> Vec<Value> {
    let rows = tokens.iter().zip(types).enumerate();
    rows.filter(|(_, (_, kind))| matches!(**kind, UNKNOWN | CONTROL | USER_DEFINED))
        .map(|(id, (token, &kind))| {
            json!({
                "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": kind != USER_DEFINED,
            })
        })
        .collect()
}

/// The tokens put around a text, if the metadata ask for any. Llama 3 has a first token unless they say otherwise.
fn post_processor(meta: &Metadata, pre: Pre, tokens: &[String]) -> Result<Value, GgufError> {
    let first = meta.flag("tokenizer.ggml.add_bos_token")?.unwrap_or(pre == Pre::Llama3);
    let last = meta.flag("tokenizer.ggml.add_eos_token")?.unwrap_or(false);
    let mut special = Map::new();
    let (mut single, mut pair) = (Vec::new(), Vec::new());
    let mut put = |wanted: bool, key: &'static str| {
        if !wanted {
            return Ok(());
        }
        let id = meta.integer(key)?.ok_or_else(|| meta.missing(key))?;
        let token = usize::try_from(id).ok().and_then(|id| tokens.get(id));
        let token = token.ok_or_else(|| meta.value_error(key, id, format!("a token below {}", tokens.len())))?;
        special.insert(token.clone(), json!({ "id": token, "ids": [id], "tokens": [token] }));
        single.push(json!({ "SpecialToken": { "id": token, "type_id": 0 } }));
        pair.push(json!({ "SpecialToken": { "id": token, "type_id": 1 } }));
        Ok(())
    };
    put(first, "tokenizer.ggml.bos_token_id")?;
    put(last, "tokenizer.ggml.eos_token_id")?;
    if single.is_empty() {
        return Ok(Value::Null);
    }
    let at = usize::from(first);
    single.insert(at, json!({ "Sequence": { "id": "A", "type_id": 0 } }));
    pair.insert(at, json!({ "Sequence": { "id": "B", "type_id": 1 } }));
    let pair: Vec<Value> = single.iter().cloned().chain(pair).collect();
    Ok(json!({ "type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": special }))
}

fn unsupported(meta: &Metadata, key: &'static str, found: &str, supported: &str) -> GgufError {
    let (found, supported) = (found.to_owned(), supported.to_owned());
    GgufError::Tokenizer { path: meta.path.clone(), key, found, supported }
}

fn bad_row(meta: &Metadata, key: &'static str, index: usize, problem: String) -> GgufError {
    GgufError::TokenizerTable { path: meta.path.clone(), key, index, problem }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use anamnesis::parse::gguf::{GgufMetadataArray, GgufMetadataValue};
    use serde_json::Value;
    use tokenizers::Tokenizer;

    use super::super::front_matter;
    use super::{Metadata, build};

    fn golden(name: &str) -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/gguf_tiny").join(name)
    }

    /// The metadata of the tiny llama with some keys set anew.
    fn metadata(changes: &[(&str, GgufMetadataValue)]) -> Metadata {
        let path = golden("llama.gguf");
        let mut entries = front_matter(&path).unwrap().metadata;
        entries.extend(changes.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
        Metadata::new(&path, entries)
    }

    fn text(text: &str) -> GgufMetadataValue {
        GgufMetadataValue::String(text.to_owned())
    }

    fn tokenizer(meta: &Metadata) -> Tokenizer {
        build(meta).unwrap().to_string().parse().unwrap()
    }

    #[test]
    fn every_pre_tokenizer_gives_the_ids_of_hugging_face_parts() {
        let expected: Value = serde_json::from_slice(&std::fs::read(golden("tokens.json")).unwrap()).unwrap();
        for pre in ["smollm", "gpt-2", "llama-bpe", "qwen2"] {
            let tokenizer = tokenizer(&metadata(&[(super::PRE, text(pre))]));
            for case in expected[pre].as_array().unwrap() {
                let ids: Vec<u32> = case[1].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
                let input = case[0].as_str().unwrap();
                assert_eq!(tokenizer.encode(input, false).unwrap().get_ids(), ids, "{pre}: {input:?}");
                if pre != "qwen2" {
                    assert_eq!(tokenizer.decode(&ids, false).unwrap(), input);
                }
            }
        }
    }

    #[test]
    fn first_and_last_tokens_are_added_when_the_metadata_ask() {
        let yes = GgufMetadataValue::Bool(true);
        for (first, last) in [(true, false), (false, true), (true, true), (false, false)] {
            let mut changes = Vec::new();
            changes.extend(first.then_some(("tokenizer.ggml.add_bos_token", yes.clone())));
            changes.extend(last.then_some(("tokenizer.ggml.add_eos_token", yes.clone())));
            let ids = tokenizer(&metadata(&changes)).encode("!", true).unwrap().get_ids().to_vec();
            let expected = [&[1][..if first { 1 } else { 0 }], &[3], &[2][..if last { 1 } else { 0 }]].concat();
            assert_eq!(ids, expected);
        }
    }

    #[test]
    fn other_kinds_are_refused_by_name_with_the_way_out() {
        for (key, value) in [(super::MODEL, "llama"), (super::PRE, "tekken")] {
            let message = build(&metadata(&[(key, text(value))])).unwrap_err().to_string();
            for part in ["llama.gguf", key, value, "tokenizer.json beside the file"] {
                assert!(message.contains(part), "{message}");
            }
        }
    }

    #[test]
    fn contradicting_tables_are_refused_by_row() {
        let list = |texts: &[&str]| {
            let texts = texts.iter().map(|t| (*t).to_owned()).collect();
            GgufMetadataValue::Array(Box::new(GgufMetadataArray::String(texts)))
        };
        for (key, value, part) in [
            (super::MERGES, list(&["a b", "ab"]), "[0]: `ab`"),
            (super::MERGES, list(&["nospace"]), "is not two tokens"),
            (super::TOKENS, list(&["a", "b", "a"]), "[2]: `a` is also token 0"),
        ] {
            let message = build(&metadata(&[(key, value)])).unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        }
    }
}
