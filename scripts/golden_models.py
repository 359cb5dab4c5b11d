"""Golden fixtures for the model loaders: tiny random checkpoints and what Hugging Face transformers computes with them.

Usage: python scripts/golden_models.py [OUT_DIR]    (default: crates/model/tests/golden, from the repository root)

Needs torch, transformers (5.x) and safetensors. Each folder OUT_DIR/<name> holds what `save_pretrained` writes
(config.json, model.safetensors or its shards with their index) and expected.safetensors:

  input_ids.K      I64 [T]         K = 0, 1, 2; T = 5, 13, 24
  logits.K         F32 [T, vocab]
  grad.1.<param>   F32             gradient, w.r.t. the parameters matched by GRADS, of the sum over positions of
                                   -log p(next token) on sequence 1 (T - 1 = 12 terms)

Parameter names and layouts are those of transformers. The expected values come from the folder as saved (so after
rounding to its dtype), loaded in float64 with eager attention, and are stored as float32. Transformers itself computes
the rotary angles, RMSNorm's statistics and the attention softmax of some families in float32 whatever the dtype, so
take them as accurate to float32, not beyond.
"""

import json
import re
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
)

VOCAB, CONTEXT, LENGTHS, GRAD_SEQUENCE = 67, 32, (5, 13, 24), 1
TOKENS = dict(vocab_size=VOCAB, bos_token_id=0, eos_token_id=0)

# Parameters whose gradient is kept: embeddings, and in layer 0 the query/key/value maps, one MLP weight, the first norm.
GRADS = re.compile(
    r"(wte|wpe|embed_in|embed_tokens)\.weight$"
    r"|\.0\.(attn\.c_attn|attention\.query_key_value|self_attn\.[qkv]_proj)\.(weight|bias)$"
    r"|\.0\.mlp\.(c_fc|dense_h_to_4h|up_proj)\.weight$"
    r"|\.0\.(ln_1|input_layernorm)\.(weight|bias)$"
)


def gpt2(**options):
    return GPT2Config(**{**TOKENS, "n_positions": CONTEXT, "n_embd": 24, "n_layer": 2, "n_head": 3, **options})


def neox(**options):
    return GPTNeoXConfig(
        **TOKENS, max_position_embeddings=CONTEXT, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, rotary_pct=0.25, hidden_act="gelu", **options,
    )  # fmt: skip


def llama(kind=LlamaConfig, **options):
    shape = dict(hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2)
    common = dict(max_position_embeddings=CONTEXT, rms_norm_eps=1e-5, tie_word_embeddings=False)
    return kind(**{**TOKENS, **shape, **common, **options})


# Every frequency range of the llama3 scaling occurs: wavelengths 6.3 (kept), 19.9 (blended), 62.8 and 199 (divided).
LLAMA3_ROPE = dict(
    rope_type="llama3", rope_theta=100.0, factor=2.0, low_freq_factor=0.5, high_freq_factor=2.0,
    original_max_position_embeddings=16,
)  # fmt: skip

# name -> (config, dtype saved, options of save_pretrained)
MODELS = {
    "gpt2": (gpt2(), torch.float32, {}),
    "gpt2_untied": (
        gpt2(tie_word_embeddings=False, activation_function="gelu", n_inner=40), torch.float32, {}
    ),
    "gpt2_f16": (gpt2(), torch.float16, {}),
    "neox": (neox(use_parallel_residual=True), torch.float32, {}),
    "neox_sequential": (neox(use_parallel_residual=False), torch.float32, {}),
    "llama": (llama(), torch.float32, {}),
    "llama_sharded": (llama(), torch.float32, {"max_shard_size": "16KB"}),
    "llama_tied_bf16": (llama(tie_word_embeddings=True), torch.bfloat16, {}),
    "llama3_rope": (llama(head_dim=8, rope_parameters=LLAMA3_ROPE), torch.float32, {}),
    "mistral": (llama(MistralConfig, sliding_window=None), torch.float32, {}),
    "qwen2": (llama(Qwen2Config, rms_norm_eps=1e-6), torch.float32, {}),
    "smollm": (
        llama(
            num_attention_heads=3, num_key_value_heads=1, tie_word_embeddings=True,
            rope_parameters={"rope_type": "default", "rope_theta": 1e5},
        ), torch.float32, {},
    ),
}  # fmt: skip


def randomize(model):
    """Weights large enough for logits far from zero; no norm weight at 1, no bias at 0."""
    for name, parameter in model.named_parameters():
        with torch.no_grad():
            parameter.normal_(0.0, 0.3)
            if parameter.dim() == 1 and name.endswith("weight"):
                parameter += 1.0


def old_style(path):
    """Spell a config.json as transformers 4 did (and as SmolLM2 is published): no rope_parameters, dtype, head_dim."""
    config = json.loads(path.read_text())
    config["rope_theta"] = config.pop("rope_parameters")["rope_theta"]
    config["rope_scaling"] = None
    config["torch_dtype"] = config.pop("dtype")
    del config["head_dim"]
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def expected(folder):
    """Logits and gradients of the model saved in `folder`."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager").eval()
    tensors = {}
    for k, length in enumerate(LENGTHS):
        ids = torch.randint(VOCAB, (length,))
        logits = model(ids[None]).logits[0]
        tensors[f"input_ids.{k}"] = ids
        tensors[f"logits.{k}"] = logits
        if k == GRAD_SEQUENCE:
            torch.nn.functional.cross_entropy(logits[:-1], ids[1:], reduction="sum").backward()
            for name, parameter in model.named_parameters():
                if GRADS.search(name):
                    tensors[f"grad.{k}.{name}"] = parameter.grad
    return {
        name: t.detach().contiguous() if t.dtype == torch.int64 else t.detach().float().contiguous()
        for name, t in tensors.items()
    }


def main():
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "crates/model/tests/golden")
    for name, (config, dtype, options) in MODELS.items():
        folder = out / name
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
        randomize(model)
        model.to(dtype).save_pretrained(folder, safe_serialization=True, **options)
        if name == "smollm":
            old_style(folder / "config.json")
        save_file(expected(folder), folder / "expected.safetensors")
        print(f"{name}: {sum(f.stat().st_size for f in folder.iterdir()) / 1000:.0f} kB")


if __name__ == "__main__":
    main()
