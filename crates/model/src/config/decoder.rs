//! Decoder-only language models: one description for GPT-2, GPT-NeoX and the Llama family.

use etymon_tensor::Activation;
use serde_json::{Value, json};

use super::json::{activation, activation_name, count, divides, flag, number, only, optional_count};
use crate::Result;
use crate::rope::Rope;

/// Names of parameters and the layout of their storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// GPT-2: Conv1D weights `[d_in, d_out]`, fused query-key-value.
    Gpt2,
    /// GPT-NeoX (Pythia): query-key-value fused head by head.
    GptNeoX,
    /// Llama, SmolLM.
    Llama,
    /// Mistral.
    Mistral,
    /// Qwen2: Llama with biases on q, k, v.
    Qwen2,
}

/// Normalisation before attention, MLP and head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Norm {
    /// Mean and variance, gain and shift.
    LayerNorm,
    /// Root mean square, gain.
    RmsNorm,
}

/// How positions enter.
#[derive(Clone, Debug, PartialEq)]
pub enum Positions {
    /// A learned table added to the token embedding.
    Learned,
    /// Rotation of queries and keys.
    Rotary(Rope),
}

/// The feed-forward part of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MlpKind {
    /// down(act(up(x))).
    Plain(Activation),
    /// down(act(gate(x)) ∘ up(x)).
    Gated(Activation),
}

/// Order of the residual additions of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Residual {
    /// x + attention(norm x), then + mlp(norm of that).
    Sequential,
    /// x + attention(norm₁ x) + mlp(norm₂ x).
    Parallel,
}

/// A decoder-only language model.
#[derive(Clone, Debug, PartialEq)]
pub struct DecoderConfig {
    /// Parameter names and storage.
    pub family: Family,
    /// Vocabulary size.
    pub vocab: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Number of blocks.
    pub n_layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Width of the MLP.
    pub d_ff: usize,
    /// Longest sequence.
    pub context: usize,
    /// Normalisation.
    pub norm: Norm,
    /// Its ε.
    pub norm_eps: f64,
    /// Positions.
    pub positions: Positions,
    /// MLP.
    pub mlp: MlpKind,
    /// Residual order.
    pub residual: Residual,
    /// Biases on q, k, v.
    pub qkv_bias: bool,
    /// Bias on the attention output.
    pub output_bias: bool,
    /// Biases in the MLP.
    pub mlp_bias: bool,
    /// Head and token embedding are one parameter.
    pub tied: bool,
    /// Scores are multiplied by 1/√head_dim.
    pub scale_attention: bool,
    /// Scores of block i are also divided by i + 1.
    pub scale_by_layer: bool,
    /// Sliding attention window.
    pub window: Option<usize>,
}

impl DecoderConfig {
    pub(super) fn gpt2(json: &Value) -> Result<Self> {
        only(json, "add_cross_attention", &Value::Bool(false))?;
        let d_model = count(json, "n_embd")?;
        let heads = count(json, "n_head")?;
        divides("n_head", heads, d_model)?;
        Ok(Self {
            family: Family::Gpt2,
            vocab: count(json, "vocab_size")?,
            d_model,
            n_layers: count(json, "n_layer")?,
            heads,
            kv_heads: heads,
            head_dim: d_model / heads,
            d_ff: optional_count(json, "n_inner")?.unwrap_or(4 * d_model),
            context: count(json, "n_positions")?,
            norm: Norm::LayerNorm,
            norm_eps: number(json, "layer_norm_epsilon", 1e-5)?,
            positions: Positions::Learned,
            mlp: MlpKind::Plain(activation(json, "activation_function", Activation::GeluTanh)?),
            residual: Residual::Sequential,
            qkv_bias: true,
            output_bias: true,
            mlp_bias: true,
            tied: flag(json, "tie_word_embeddings", true)?,
            scale_attention: flag(json, "scale_attn_weights", true)?,
            scale_by_layer: flag(json, "scale_attn_by_inverse_layer_idx", false)?,
            window: None,
        })
    }

    pub(super) fn gpt_neox(json: &Value) -> Result<Self> {
        let d_model = count(json, "hidden_size")?;
        let heads = count(json, "num_attention_heads")?;
        divides("num_attention_heads", heads, d_model)?;
        let head_dim = d_model / heads;
        let bias = flag(json, "attention_bias", true)?;
        let residual =
            if flag(json, "use_parallel_residual", true)? { Residual::Parallel } else { Residual::Sequential };
        Ok(Self {
            family: Family::GptNeoX,
            vocab: count(json, "vocab_size")?,
            d_model,
            n_layers: count(json, "num_hidden_layers")?,
            heads,
            kv_heads: heads,
            head_dim,
            d_ff: count(json, "intermediate_size")?,
            context: count(json, "max_position_embeddings")?,
            norm: Norm::LayerNorm,
            norm_eps: number(json, "layer_norm_eps", 1e-5)?,
            positions: Positions::Rotary(Rope::from_json(json, head_dim, 0.25)?),
            mlp: MlpKind::Plain(activation(json, "hidden_act", Activation::GeluErf)?),
            residual,
            qkv_bias: bias,
            output_bias: bias,
            mlp_bias: true,
            tied: flag(json, "tie_word_embeddings", false)?,
            scale_attention: true,
            scale_by_layer: false,
            window: None,
        })
    }

    pub(super) fn llama(json: &Value, family: Family) -> Result<Self> {
        let d_model = count(json, "hidden_size")?;
        let heads = count(json, "num_attention_heads")?;
        let kv_heads = optional_count(json, "num_key_value_heads")?.unwrap_or(heads);
        divides("num_key_value_heads", kv_heads, heads)?;
        let head_dim = match optional_count(json, "head_dim")? {
            Some(n) => n,
            None => {
                divides("num_attention_heads", heads, d_model)?;
                d_model / heads
            }
        };
        let bias = flag(json, "attention_bias", false)?;
        let windowed = match family {
            Family::Mistral => true,
            Family::Qwen2 => flag(json, "use_sliding_window", false)?,
            _ => false,
        };
        let window = if windowed { optional_count(json, "sliding_window")? } else { None };
        if family == Family::Qwen2 && window.is_some() {
            // Qwen2 windows only its upper layers; no published model switches it on.
            only(json, "use_sliding_window", &Value::Bool(false))?;
        }
        Ok(Self {
            family,
            vocab: count(json, "vocab_size")?,
            d_model,
            n_layers: count(json, "num_hidden_layers")?,
            heads,
            kv_heads,
            head_dim,
            d_ff: count(json, "intermediate_size")?,
            context: count(json, "max_position_embeddings")?,
            norm: Norm::RmsNorm,
            norm_eps: number(json, "rms_norm_eps", 1e-6)?,
            positions: Positions::Rotary(Rope::from_json(json, head_dim, 1.0)?),
            mlp: MlpKind::Gated(activation(json, "hidden_act", Activation::Silu)?),
            residual: Residual::Sequential,
            qkv_bias: bias || family == Family::Qwen2,
            output_bias: bias && family == Family::Llama,
            mlp_bias: flag(json, "mlp_bias", false)?,
            tied: flag(json, "tie_word_embeddings", false)?,
            scale_attention: true,
            scale_by_layer: false,
            window,
        })
    }

    /// A new GPT-2 with a tied head, as `config.json` describes it.
    pub fn gpt2_json(vocab: usize, context: usize, d_model: usize, n_layers: usize, heads: usize) -> Value {
        json!({
            "model_type": "gpt2",
            "architectures": ["GPT2LMHeadModel"],
            "vocab_size": vocab,
            "n_positions": context,
            "n_embd": d_model,
            "n_layer": n_layers,
            "n_head": heads,
            "activation_function": activation_name(Activation::GeluTanh),
            "layer_norm_epsilon": 1e-5,
            "tie_word_embeddings": true,
            "attn_pdrop": 0.0,
            "embd_pdrop": 0.0,
            "resid_pdrop": 0.0,
            "bos_token_id": 0,
            "eos_token_id": 0,
        })
    }
}
