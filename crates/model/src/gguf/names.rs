//! GGUF tensor names and Hugging Face parameter names of the Llama family.

/// What a tensor of the file is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Role {
    /// A parameter, by its Hugging Face name.
    Parameter { name: String, rows: Rows },
    /// Divisors of the rotary frequencies: configuration kept as a tensor.
    RopeFactors,
    /// Nothing that the model computes with.
    Unused,
}

/// Order of a tensor's rows in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rows {
    /// As in the Hugging Face checkpoint.
    Same,
    /// Rows of a query projection.
    Query,
    /// Rows of a key projection.
    Key,
}

/// Parts of a layer: name in the file, name in the checkpoint.
const LAYER_PARTS: [(&str, &str); 9] = [
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

/// The role of tensor `name` in a model of `layers` layers; `None` if it has none.
pub(super) fn role(name: &str, layers: u64) -> Option<Role> {
    let same = |name: &str| Role::Parameter { name: name.to_owned(), rows: Rows::Same };
    match name {
        "token_embd.weight" => return Some(same("model.embed_tokens.weight")),
        "output.weight" => return Some(same("lm_head.weight")),
        "output_norm.weight" => return Some(same("model.norm.weight")),
        "rope_freqs.weight" => return Some(Role::RopeFactors),
        _ => {}
    }
    let (index, rest) = name.strip_prefix("blk.")?.split_once('.')?;
    let layer: u64 = index.parse().ok()?;
    if layer >= layers || layer.to_string() != index {
        return None;
    }
    if matches!(rest, "attn_rot_embd" | "attn_rot_embd.weight" | "attn_rot_embd.inv_freq") {
        return Some(Role::Unused);
    }
    let (part, kind) = rest.split_once('.')?;
    let (_, to) = LAYER_PARTS.iter().find(|(from, _)| *from == part)?;
    if !matches!(kind, "weight" | "bias") || (kind == "bias" && part.ends_with("norm")) {
        return None;
    }
    let rows = match part {
        "attn_q" => Rows::Query,
        "attn_k" => Rows::Key,
        _ => Rows::Same,
    };
    Some(Role::Parameter { name: format!("model.layers.{layer}.{to}.{kind}"), rows })
}

#[cfg(test)]
mod tests {
    use super::{Role, Rows, role};

    #[test]
    fn a_key_projection_is_named_as_in_the_checkpoint_and_marked() {
        let name = "model.layers.11.self_attn.k_proj.bias".to_owned();
        assert_eq!(role("blk.11.attn_k.bias", 12), Some(Role::Parameter { name, rows: Rows::Key }));
    }

    #[test]
    fn experts_norm_biases_and_layers_past_the_last_have_no_role() {
        for name in
            ["blk.0.ffn_gate_exps.weight", "blk.0.attn_norm.bias", "blk.2.attn_q.weight", "blk.01.attn_q.weight"]
        {
            assert_eq!(role(name, 2), None, "{name}");
        }
    }
}
