//! The equivalent of a Hugging Face `config.json`, from the metadata and the tensor table.

use serde_json::{Value, json};

use super::metadata::Metadata;
use super::rope;
use super::{GgufError, names};

/// `general.architecture` of the files that can be read.
const ARCHITECTURES: &str = "llama, mistral, qwen2";

/// The sizes that reading tensors needs too.
#[derive(Debug)]
pub(super) struct Sizes {
    /// `general.architecture`: the prefix of the model's keys.
    pub(super) architecture: String,
    pub(super) layers: u64,
    pub(super) heads: u64,
    pub(super) kv_heads: u64,
    pub(super) head_dim: u64,
}

impl Sizes {
    pub(super) fn read(meta: &Metadata) -> Result<Self, GgufError> {
        let key = "general.architecture";
        let architecture = meta.text(key)?.ok_or_else(|| meta.missing(key))?.to_owned();
        if !matches!(architecture.as_str(), "llama" | "mistral" | "qwen2") {
            return Err(meta.value_error(key, format!("`{architecture}`"), ARCHITECTURES));
        }
        let key = |name: &str| format!("{architecture}.{name}");
        let heads = meta.positive(&key("attention.head_count"))?;
        let kv_heads = match meta.integer(&key("attention.head_count_kv"))? {
            Some(_) => meta.positive(&key("attention.head_count_kv"))?,
            None => heads,
        };
        let layers = meta.positive(&key("block_count"))?;
        let head_dim = match meta.integer(&key("attention.key_length"))? {
            Some(_) => meta.positive(&key("attention.key_length"))?,
            None => meta.positive(&key("embedding_length"))? / heads,
        };
        let sizes = Self { layers, heads, kv_heads, head_dim, architecture };
        sizes.refuse_variants(meta)?;
        Ok(sizes)
    }

    pub(super) fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.architecture)
    }

    /// Whether llama.cpp's converter interleaves query and key rows of this architecture.
    pub(super) fn interleaves(&self) -> bool {
        self.architecture != "qwen2"
    }

    /// The role of a tensor of the file.
    pub(super) fn role(&self, meta: &Metadata, tensor: &str) -> Result<names::Role, GgufError> {
        names::role(tensor, self.layers).ok_or_else(|| GgufError::UnknownTensor {
            path: meta.path.clone(),
            tensor: tensor.to_owned(),
            architecture: self.architecture.clone(),
            layers: self.layers,
        })
    }

    /// Variants that the metadata can describe and a Llama-family config.json cannot.
    fn refuse_variants(&self, meta: &Metadata) -> Result<(), GgufError> {
        let only = |name: &str, expected: u64| {
            let key = self.key(name);
            match meta.integer(&key)? {
                Some(found) if found != expected => Err(meta.value_error(&key, found, expected.to_string())),
                _ => Ok(()),
            }
        };
        only("expert_count", 0)?;
        only("attention.value_length", self.head_dim)?;
        only("rope.dimension_count", self.head_dim)
    }
}

/// What the tensor table says about the configuration.
#[derive(Debug)]
pub(super) struct Facts {
    /// Rows of the token embedding.
    pub(super) vocab: usize,
    /// There is no separate head.
    pub(super) tied: bool,
    /// Projections of the attention have a bias.
    pub(super) attention_bias: bool,
    /// Projections of the MLP have a bias.
    pub(super) mlp_bias: bool,
    /// Divisors of the rotary frequencies.
    pub(super) rope_factors: Option<Vec<f32>>,
}

/// The config.json.
pub(super) fn build(meta: &Metadata, sizes: &Sizes, facts: &Facts) -> Result<Value, GgufError> {
    let positive = |name: &str| meta.positive(&sizes.key(name));
    let window = meta.integer(&sizes.key("attention.sliding_window"))?.filter(|&n| n > 0);
    let qwen = sizes.architecture == "qwen2";
    let (model_type, class) = match (sizes.architecture.as_str(), window) {
        ("qwen2", _) => ("qwen2", "Qwen2ForCausalLM"),
        ("mistral", _) | (_, Some(_)) => ("mistral", "MistralForCausalLM"),
        _ => ("llama", "LlamaForCausalLM"),
    };
    let epsilon_key = sizes.key("attention.layer_norm_rms_epsilon");
    let epsilon = meta.number(&epsilon_key)?.ok_or_else(|| meta.missing(&epsilon_key))?;
    let theta = meta.number(&sizes.key("rope.freq_base"))?.unwrap_or(10_000.0);
    let mut config = json!({
        "architectures": [class],
        "model_type": model_type,
        "vocab_size": facts.vocab,
        "hidden_size": positive("embedding_length")?,
        "intermediate_size": positive("feed_forward_length")?,
        "num_hidden_layers": sizes.layers,
        "num_attention_heads": sizes.heads,
        "num_key_value_heads": sizes.kv_heads,
        "head_dim": sizes.head_dim,
        "max_position_embeddings": positive("context_length")?,
        "hidden_act": "silu",
        "rms_norm_eps": epsilon,
        "rope_theta": theta,
        "tie_word_embeddings": facts.tied,
        "attention_bias": facts.attention_bias,
        "mlp_bias": facts.mlp_bias,
    });
    if let Some(window) = window.filter(|_| !qwen) {
        config["sliding_window"] = window.into();
    }
    if let Some(scaling) = rope::scaling(meta, sizes, facts.rope_factors.as_deref(), theta)? {
        config["rope_scaling"] = scaling;
    }
    for (name, key) in [("bos_token_id", "bos"), ("eos_token_id", "eos"), ("pad_token_id", "padding")] {
        if let Some(id) = meta.integer(&format!("tokenizer.ggml.{key}_token_id"))? {
            config[name] = id.into();
        }
    }
    Ok(config)
}
