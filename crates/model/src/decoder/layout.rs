//! Names, shapes and start values of a decoder's parameters, family by family.

use etymon_tensor::Attention;

use super::{Block, Decoder, MlpLayers, NormParams, Qkv};
use crate::blueprint::Blueprint;
use crate::config::{DecoderConfig, Family, MlpKind, Norm, Positions};
use crate::layers::{Linear, Role};
use crate::params::{Init, Storage};

const STD: f64 = 0.02;

/// Where a family keeps what.
struct Names {
    embedding: &'static str,
    positions: &'static str,
    blocks: &'static str,
    final_norm: &'static str,
    head: &'static str,
    norm_attention: &'static str,
    qkv: [&'static str; 3],
    output: &'static str,
    norm_mlp: &'static str,
    gate: &'static str,
    up: &'static str,
    down: &'static str,
}

const GPT2: Names = Names {
    embedding: "transformer.wte",
    positions: "transformer.wpe",
    blocks: "transformer.h",
    final_norm: "transformer.ln_f",
    head: "lm_head",
    norm_attention: "ln_1",
    qkv: ["attn.c_attn", "", ""],
    output: "attn.c_proj",
    norm_mlp: "ln_2",
    gate: "",
    up: "mlp.c_fc",
    down: "mlp.c_proj",
};

const GPT_NEOX: Names = Names {
    embedding: "gpt_neox.embed_in",
    positions: "",
    blocks: "gpt_neox.layers",
    final_norm: "gpt_neox.final_layer_norm",
    head: "embed_out",
    norm_attention: "input_layernorm",
    qkv: ["attention.query_key_value", "", ""],
    output: "attention.dense",
    norm_mlp: "post_attention_layernorm",
    gate: "",
    up: "mlp.dense_h_to_4h",
    down: "mlp.dense_4h_to_h",
};

const LLAMA: Names = Names {
    embedding: "model.embed_tokens",
    positions: "",
    blocks: "model.layers",
    final_norm: "model.norm",
    head: "lm_head",
    norm_attention: "input_layernorm",
    qkv: ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
    output: "self_attn.o_proj",
    norm_mlp: "post_attention_layernorm",
    gate: "mlp.gate_proj",
    up: "mlp.up_proj",
    down: "mlp.down_proj",
};

impl Decoder {
    /// Lays out all parameters.
    pub fn new(config: DecoderConfig, plan: &mut Blueprint) -> Self {
        let names = match config.family {
            Family::Gpt2 => &GPT2,
            Family::GptNeoX => &GPT_NEOX,
            Family::Llama | Family::Mistral | Family::Qwen2 => &LLAMA,
        };
        let c = &config;
        let normal = Init::Normal(STD);
        let embedding = plan.matrix(format!("{}.weight", names.embedding), c.vocab, c.d_model, Storage::Matrix, normal);
        let positions = (c.positions == Positions::Learned)
            .then(|| plan.matrix(format!("{}.weight", names.positions), c.context, c.d_model, Storage::Matrix, normal));
        let blocks = (0..c.n_layers).map(|i| block(c, names, i, plan)).collect();
        let final_norm = norm(c, names.final_norm.to_owned(), plan);
        let weight = if c.tied {
            embedding
        } else {
            plan.matrix(format!("{}.weight", names.head), c.vocab, c.d_model, Storage::Matrix, normal)
        };
        let name = names.head.to_owned();
        let (d_in, d_out, role) = (c.d_model, c.vocab, Role::Head);
        let head = Linear {
            name,
            weight,
            bias: None,
            d_in,
            d_out,
            role,
            input: weight,
            positions: 1,
            tap: None,
            adapter: None,
        };
        Self { embedding, positions, blocks, final_norm, head, config }
    }
}

fn norm(c: &DecoderConfig, name: String, plan: &mut Blueprint) -> NormParams {
    let gain = plan.vector(format!("{name}.weight"), c.d_model, Init::Ones);
    let shift = (c.norm == Norm::LayerNorm).then(|| plan.vector(format!("{name}.bias"), c.d_model, Init::Zeros));
    NormParams { gain, shift }
}

fn block(c: &DecoderConfig, names: &Names, index: usize, plan: &mut Blueprint) -> Block {
    let at = |part: &str| format!("{}.{index}.{part}", names.blocks);
    let storage = if c.family == Family::Gpt2 { Storage::Transposed } else { Storage::Matrix };
    // Residual projections start smaller, so that the stream's variance does not grow with depth (GPT-2).
    let residual = Init::Normal(STD / (2.0 * c.n_layers as f64).sqrt());
    let normal = Init::Normal(STD);
    let (d, q, kv) = (c.d_model, c.heads * c.head_dim, c.kv_heads * c.head_dim);
    let norm_attention = norm(c, at(names.norm_attention), plan);
    let qkv = match c.family {
        Family::Gpt2 => Qkv::Fused(plan.linear(at(names.qkv[0]), d, q + 2 * kv, c.qkv_bias, storage, normal)),
        Family::GptNeoX => {
            let storage = Storage::PerHead { heads: c.heads, vector: false };
            Qkv::Fused(plan.linear(at(names.qkv[0]), d, q + 2 * kv, c.qkv_bias, storage, normal))
        }
        Family::Llama | Family::Mistral | Family::Qwen2 => {
            let [lq, lk, lv] = [(0, q), (1, kv), (2, kv)]
                .map(|(i, width)| plan.linear(at(names.qkv[i]), d, width, c.qkv_bias, storage, normal));
            let (lk, lv) = (lk.sharing_input_of(&lq), lv.sharing_input_of(&lq));
            Qkv::Separate(Box::new([lq, lk, lv]))
        }
    };
    let output = plan.linear(at(names.output), q, d, c.output_bias, storage, residual);
    let norm_mlp = norm(c, at(names.norm_mlp), plan);
    let (activation, gate) = match c.mlp {
        MlpKind::Plain(activation) => (activation, None),
        MlpKind::Gated(activation) => {
            (activation, Some(plan.linear(at(names.gate), d, c.d_ff, c.mlp_bias, storage, normal)))
        }
    };
    let up = plan.linear(at(names.up), d, c.d_ff, c.mlp_bias, storage, normal);
    let up = if let Some(gate) = &gate { up.sharing_input_of(gate) } else { up };
    let down = plan.linear(at(names.down), c.d_ff, d, c.mlp_bias, storage, residual);
    let mlp = MlpLayers { activation, gate, up, down };
    Block { norm_attention, qkv, attention: attention(c, index), output, norm_mlp, mlp }
}

fn attention(c: &DecoderConfig, index: usize) -> Attention {
    let by_width = if c.scale_attention { 1.0 / (c.head_dim as f64).sqrt() } else { 1.0 };
    let by_layer = if c.scale_by_layer { 1.0 / (index + 1) as f64 } else { 1.0 };
    Attention {
        heads: c.heads,
        kv_heads: c.kv_heads,
        head_dim: c.head_dim,
        causal: true,
        window: c.window,
        scale: by_width * by_layer,
    }
}
