//! What `config.json` says, as one description: GPT-2, GPT-NeoX and the Llama family are one decoder with choices.

mod decoder;
mod json;
mod mlp;

use serde_json::Value;

use crate::{ModelError, Result};
pub use decoder::{DecoderConfig, Family, MlpKind, Norm, Positions, Residual};
pub use mlp::{MlpConfig, Task};

const KNOWN: &str = "gpt2, gpt_neox, llama, mistral, qwen2, mlp";

/// The architecture of a model.
#[derive(Clone, Debug, PartialEq)]
pub enum ModelConfig {
    /// A decoder-only language model.
    Decoder(DecoderConfig),
    /// A multi-layer perceptron.
    Mlp(MlpConfig),
}

impl ModelConfig {
    /// Reads a `config.json`.
    ///
    /// # Errors
    /// Unknown `model_type`, missing keys, and choices that etymon does not compute (each named).
    pub fn from_json(json: &Value) -> Result<Self> {
        let model_type = json.get("model_type").and_then(Value::as_str).unwrap_or("(no model_type)");
        match model_type {
            "gpt2" => DecoderConfig::gpt2(json).map(Self::Decoder),
            "gpt_neox" => DecoderConfig::gpt_neox(json).map(Self::Decoder),
            "llama" => DecoderConfig::llama(json, Family::Llama).map(Self::Decoder),
            "mistral" => DecoderConfig::llama(json, Family::Mistral).map(Self::Decoder),
            "qwen2" => DecoderConfig::llama(json, Family::Qwen2).map(Self::Decoder),
            "mlp" => MlpConfig::from_json(json).map(Self::Mlp),
            other => Err(ModelError::UnknownArchitecture { found: other.to_owned(), known: KNOWN }),
        }
    }

    /// Longest sequence, or `None` for models of feature rows.
    pub fn context(&self) -> Option<usize> {
        match self {
            Self::Decoder(c) => Some(c.context),
            Self::Mlp(_) => None,
        }
    }

    /// Vocabulary size, or `None` for models of feature rows.
    pub fn vocab(&self) -> Option<usize> {
        match self {
            Self::Decoder(c) => Some(c.vocab),
            Self::Mlp(_) => None,
        }
    }
}
