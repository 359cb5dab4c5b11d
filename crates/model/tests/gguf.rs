//! GGUF files against what gguf-py and Hugging Face's parts make of them (`scripts/golden_gguf.py`).

#![allow(clippy::unwrap_used, reason = "helpers of tests are outside the reach of allow-unwrap-in-tests")]

use std::path::{Path, PathBuf};

use etymon_model::gguf::{GgufError, GgufModel};
use safetensors::SafeTensors;
use serde_json::{Value, json};
use tokenizers::Tokenizer;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/gguf_tiny").join(name)
}

/// `pattern` of the script: the value of the tensor with GGUF name `name` at row i, column j, before interleaving.
fn pattern(name: &str, shape: &[usize]) -> Vec<f32> {
    let seed: usize = name.bytes().map(usize::from).sum();
    let columns = shape.get(1).copied().unwrap_or(1);
    let value = |i: usize, j: usize| {
        let k = match shape.len() {
            1 => (i * 31 + seed) % 15,
            _ if j.is_multiple_of(32) => return -1.0,
            _ => (i * 31 + j * 17 + i * j + seed) % 15,
        };
        (k as f32 - 7.0) / 8.0
    };
    (0..shape[0]).flat_map(|i| (0..columns).map(move |j| value(i, j))).collect()
}

/// GGUF name, Hugging Face name and shape of every tensor of the tiny models.
fn tensors(qwen: bool) -> Vec<(&'static str, &'static str, Vec<usize>)> {
    let mut all = vec![
        ("token_embd.weight", "model.embed_tokens.weight", vec![302, 32]),
        ("output_norm.weight", "model.norm.weight", vec![32]),
        ("blk.0.attn_norm.weight", "model.layers.0.input_layernorm.weight", vec![32]),
        ("blk.0.attn_q.weight", "model.layers.0.self_attn.q_proj.weight", vec![16, 32]),
        ("blk.0.attn_k.weight", "model.layers.0.self_attn.k_proj.weight", vec![8, 32]),
        ("blk.0.attn_v.weight", "model.layers.0.self_attn.v_proj.weight", vec![8, 32]),
        ("blk.0.attn_output.weight", "model.layers.0.self_attn.o_proj.weight", vec![32, 16]),
        ("blk.0.ffn_norm.weight", "model.layers.0.post_attention_layernorm.weight", vec![32]),
        ("blk.0.ffn_gate.weight", "model.layers.0.mlp.gate_proj.weight", vec![8, 32]),
        ("blk.0.ffn_up.weight", "model.layers.0.mlp.up_proj.weight", vec![8, 32]),
        ("blk.0.ffn_down.weight", "model.layers.0.mlp.down_proj.weight", vec![32, 8]),
    ];
    if qwen {
        all.push(("blk.0.attn_q.bias", "model.layers.0.self_attn.q_proj.bias", vec![16]));
        all.push(("blk.0.attn_k.bias", "model.layers.0.self_attn.k_proj.bias", vec![8]));
        all.push(("blk.0.attn_v.bias", "model.layers.0.self_attn.v_proj.bias", vec![8]));
        all.push(("output.weight", "lm_head.weight", vec![302, 32]));
    }
    all
}

#[test]
fn every_tensor_comes_back_in_hugging_face_names_and_row_order() {
    for (file, qwen) in [("llama.gguf", false), ("qwen2.gguf", true)] {
        let model = GgufModel::open(golden(file)).unwrap();
        let tensors = tensors(qwen);
        assert_eq!(model.tensor_names().len(), tensors.len());
        for (name, hf_name, shape) in tensors {
            assert_eq!(model.shape(hf_name).unwrap(), shape, "{file}: {hf_name}");
            let (got_shape, values) = model.read_f32(hf_name).unwrap();
            assert_eq!(got_shape, shape, "{file}: {hf_name}");
            assert!(values == pattern(name, &shape), "{file}: values of {hf_name}");
        }
    }
}

#[test]
fn the_configuration_says_what_config_json_would() {
    let expected = |model_type: &str, class: &str, theta: f64, epsilon: f64, qwen: bool| {
        json!({
            "architectures": [class], "model_type": model_type, "vocab_size": 302, "hidden_size": 32,
            "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2,
            "head_dim": 4, "max_position_embeddings": 64, "hidden_act": "silu", "rms_norm_eps": epsilon,
            "rope_theta": theta, "tie_word_embeddings": !qwen, "attention_bias": qwen, "mlp_bias": false,
            "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2,
        })
    };
    let config = |file: &str| GgufModel::open(golden(file)).unwrap().config();
    assert_eq!(config("llama.gguf"), expected("llama", "LlamaForCausalLM", 1e5, 1e-5, false));
    assert_eq!(config("qwen2.gguf"), expected("qwen2", "Qwen2ForCausalLM", 1e6, 1e-6, true));
}

#[test]
fn every_block_type_decodes_as_gguf_py_decodes_it() {
    // A folder made by `scripts/golden_gguf.py FOLDER --every-type` has more types than the committed one.
    let bytes = std::fs::read(golden("types.safetensors")).unwrap();
    let expected = SafeTensors::deserialize(&bytes).unwrap();
    let model = GgufModel::open(golden("types.gguf")).unwrap();
    assert!(expected.len() >= 12);
    for (name, tensor) in expected.tensors() {
        let layer = name.split_once('.').unwrap().0;
        let (shape, values) = model.read_f32(&format!("model.layers.{layer}.mlp.up_proj.weight")).unwrap();
        let expected: Vec<f32> = tensor.data().as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect();
        assert_eq!(shape, [1, 256]);
        assert!(values == expected, "{name}: {values:?} is not {expected:?}");
    }
}

#[test]
fn the_tokenizer_encodes_as_the_one_it_was_made_from() {
    let expected: Value = serde_json::from_slice(&std::fs::read(golden("tokens.json")).unwrap()).unwrap();
    for (file, pre) in [("llama.gguf", "smollm"), ("qwen2.gguf", "qwen2")] {
        let tokenizer: Tokenizer = GgufModel::open(golden(file)).unwrap().tokenizer_json().unwrap().parse().unwrap();
        for case in expected[pre].as_array().unwrap() {
            let ids = tokenizer.encode(case[0].as_str().unwrap(), true).unwrap().get_ids().to_vec();
            assert_eq!(json!(ids), case[1], "{file}: {}", case[0]);
        }
        assert_eq!(tokenizer.token_to_id("<tool>"), Some(300));
        assert_eq!(tokenizer.token_to_id("[PAD301]"), None);
    }
}

/// A file of `bytes`, opened; on success everything is read too.
fn read_all(folder: &Path, bytes: &[u8]) -> Result<(), GgufError> {
    let path = folder.join("broken.gguf");
    // Writing over a file makes some file systems flush it; a new one stays in memory.
    let _ = std::fs::remove_file(&path);
    std::fs::write(&path, bytes).unwrap();
    let model = GgufModel::open(&path)?;
    model.tokenizer_json()?;
    model.tensor_names().try_for_each(|name| model.read_f32(name).map(drop))
}

/// Where `needle` ends in `bytes`.
fn after(bytes: &[u8], needle: &str) -> usize {
    bytes.windows(needle.len()).position(|w| w == needle.as_bytes()).unwrap() + needle.len()
}

/// The message for a llama.gguf with `with` written at `at`.
fn message(at: impl FnOnce(&[u8]) -> usize, with: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let mut bytes = std::fs::read(golden("llama.gguf")).unwrap();
    let at = at(&bytes);
    bytes[at..at + with.len()].copy_from_slice(with);
    read_all(folder.path(), &bytes).unwrap_err().to_string()
}

#[test]
fn a_broken_file_is_refused_with_its_name_and_the_way_out() {
    let cases: [(String, &[&str]); 7] = [
        (message(|_| 0, b"GGUX"), &["magic", "download or convert it again"]),
        (message(|_| 4, &1u32.to_le_bytes()), &["v1"]),
        (message(|_| 8, &u64::MAX.to_le_bytes()), &["tensor count"]),
        (message(|_| 16, &(1u64 << 40).to_le_bytes()), &["kv count"]),
        (message(|b| after(b, "general.architecture") + 12, b"gemma"), &["`gemma`", "llama, mistral, qwen2", "folder"]),
        // After a tensor's name: number of dimensions, two dimensions, type.
        (
            message(|b| after(b, "blk.0.ffn_up.weight") + 20, &99u32.to_le_bytes()),
            &["blk.0.ffn_up.weight", "99", "K-quant"],
        ),
        (message(|b| after(b, "blk.0.ffn_up.weight") + 12, &(1u64 << 33).to_le_bytes()), &["blk.0.ffn_up.weight"]),
    ];
    for (message, parts) in cases {
        for part in parts.iter().chain(&["broken.gguf"]) {
            assert!(message.contains(part), "no {part:?} in: {message}");
        }
    }
}

#[test]
fn a_tensor_of_an_integer_type_or_without_a_role_is_refused_by_name() {
    let integers = message(|b| after(b, "blk.0.attn_output.weight") + 20, &26u32.to_le_bytes());
    assert!(integers.contains("`blk.0.attn_output.weight` has type I32"), "{integers}");
    let unknown = message(|b| after(b, "blk.0.ffn_"), b"xp");
    assert!(unknown.contains("has no place in a llama model of 1 layers"), "{unknown}");
}

#[test]
fn a_name_that_is_not_there_is_an_error_that_says_so() {
    let model = GgufModel::open(golden("llama.gguf")).unwrap();
    let message = model.read_f32("lm_head.weight").unwrap_err().to_string();
    assert!(message.contains("llama.gguf") && message.contains("`lm_head.weight`"), "{message}");
}

#[test]
fn a_file_cut_anywhere_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = std::fs::read(golden("llama.gguf")).unwrap();
    // Nothing but alignment padding follows the last tensor's 512 bytes.
    let end = bytes.len() - 32;
    for length in (0..end).step_by(37).chain([0, 3, 4, 8, 23, end]) {
        assert!(read_all(folder.path(), &bytes[..length]).is_err(), "{length} of {} bytes", bytes.len());
    }
}

#[test]
fn no_flipped_byte_makes_the_reader_panic() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = std::fs::read(golden("llama.gguf")).unwrap();
    let table = after(&bytes, "token_embd.weight") - 32;
    let header = (0..1200).step_by(3).chain(table..table + 700);
    for (i, at) in header.chain((1200..bytes.len()).step_by(151)).enumerate() {
        let mut broken = bytes.clone();
        broken[at] ^= [0x01, 0x80, 0xff][i % 3];
        // Either it is refused or the flip left a valid file.
        let _ = read_all(folder.path(), &broken);
    }
}

#[test]
#[ignore = "needs the SmolLM2 GGUF: set ETYMON_SMOLLM2_GGUF"]
fn smollm2_is_read_whole() {
    let model = GgufModel::open(std::env::var_os("ETYMON_SMOLLM2_GGUF").unwrap()).unwrap();
    let config = model.config();
    let expected = json!({
        "model_type": "llama", "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536,
        "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3, "head_dim": 64,
        "max_position_embeddings": 8192, "rms_norm_eps": 1e-5, "rope_theta": 100000.0, "tie_word_embeddings": true,
    });
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(&config[key], value, "{key}");
    }
    assert_eq!(model.tensor_names().len(), 2 + 30 * 9);
    for name in model.tensor_names() {
        let (shape, values) = model.read_f32(name).unwrap();
        assert_eq!(shape.iter().product::<usize>(), values.len());
        assert!(values.iter().all(|x| x.is_finite() && x.abs() < 1000.0), "{name}");
    }
}

#[test]
#[ignore = "needs the SmolLM2 GGUF: set ETYMON_SMOLLM2_GGUF"]
fn smollm2_encodes_as_published_and_round_trips() {
    let model = GgufModel::open(std::env::var_os("ETYMON_SMOLLM2_GGUF").unwrap()).unwrap();
    let tokenizer: Tokenizer = model.tokenizer_json().unwrap().parse().unwrap();
    // Ids as transformers 5.23 gives them for this file.
    let cases: [(&str, &[u32]); 8] = [
        ("The capital of France is", &[504, 3575, 282, 4649, 314]),
        ("it's 2024, 12 345!", &[269, 506, 216, 34, 32, 34, 36, 28, 216, 33, 34, 216, 35, 36, 37, 17]),
        ("  two spaces\tand\n\n\nlines ", &[216, 827, 5600, 197, 397, 1116, 198, 5110, 216]),
        (
            "Straße über naïve café 東京 🙂",
            &[48513, 34878, 85, 5549, 137, 593, 15486, 46494, 37366, 17097, 247, 126, 16736, 122, 47526],
        ),
        ("<|im_start|>user\nHi<|im_end|>\n", &[1, 4093, 198, 26843, 2, 198]),
        ("def f(x):\n    return x**2  # ok", &[1604, 275, 24, 104, 727, 472, 1003, 1792, 828, 34, 216, 907, 10907]),
        ("e\u{301}", &[85, 151, 219]),
        ("100000 10 1", &[33, 32, 32, 32, 32, 32, 216, 33, 32, 216, 33]),
    ];
    for (text, ids) in cases {
        assert_eq!(tokenizer.encode(text, true).unwrap().get_ids(), ids, "{text:?}");
        assert_eq!(tokenizer.decode(ids, false).unwrap(), text);
    }
}
