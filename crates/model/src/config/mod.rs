//! What `config.json` says, as one description: GPT-2, GPT-NeoX and the Llama family are one decoder with choices.

mod convnet;
mod decoder;
mod json;
mod mlp;

use serde_json::Value;

use crate::{ModelError, Result};
pub use convnet::{ConvNetConfig, NetLayer};
pub use decoder::{DecoderConfig, Family, MlpKind, Norm, Positions, Residual};
pub use mlp::{MlpConfig, Task};

const KNOWN: &str = "gpt2, gpt_neox, llama, mistral, qwen2, mlp, convnet";

/// The architecture of a model.
#[derive(Clone, Debug, PartialEq)]
pub enum ModelConfig {
    /// A decoder-only language model.
    Decoder(DecoderConfig),
    /// A multi-layer perceptron.
    Mlp(MlpConfig),
    /// A convolutional network.
    ConvNet(ConvNetConfig),
}

/// What a model of feature rows reads and gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowShape {
    /// Numbers of a row.
    pub features: usize,
    /// Numbers of an output.
    pub outputs: usize,
    /// Meaning of the output.
    pub task: Task,
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
            "convnet" => ConvNetConfig::from_json(json).map(Self::ConvNet),
            other => Err(ModelError::UnknownArchitecture { found: other.to_owned(), known: KNOWN }),
        }
    }

    /// What a model of feature rows reads and gives; `None` for language models.
    pub fn rows(&self) -> Option<RowShape> {
        match self {
            Self::Decoder(_) => None,
            Self::Mlp(c) => Some(RowShape { features: c.sizes[0], outputs: c.sizes[c.sizes.len() - 1], task: c.task }),
            Self::ConvNet(c) => Some(RowShape { features: c.features(), outputs: c.outputs(), task: c.task }),
        }
    }

    /// Longest sequence, or `None` for models of feature rows.
    pub fn context(&self) -> Option<usize> {
        match self {
            Self::Decoder(c) => Some(c.context),
            Self::Mlp(_) | Self::ConvNet(_) => None,
        }
    }

    /// Vocabulary size, or `None` for models of feature rows.
    pub fn vocab(&self) -> Option<usize> {
        match self {
            Self::Decoder(c) => Some(c.vocab),
            Self::Mlp(_) | Self::ConvNet(_) => None,
        }
    }
}
