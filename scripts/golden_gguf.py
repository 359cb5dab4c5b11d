"""Golden fixtures for the GGUF reader: two tiny models and one tensor of every block type.

Usage: python scripts/golden_gguf.py [OUT_DIR [--every-type]]
       (default: crates/model/tests/golden/gguf_tiny, from the repository root, and COMMON types only, to stay small)

Needs gguf (0.19), numpy, tokenizers, transformers (5.x) and safetensors. Writes:

  llama.gguf, qwen2.gguf   one-layer models whose every value is exact in its storage type, so that the test computes the
                           expected values from `pattern` below. Rows of attn_q and attn_k of llama.gguf are interleaved
                           by llama.cpp's own formula, those of qwen2.gguf are not.
  types.gguf               blk.I.ffn_up.weight [1, 256] holds the I-th block type: quantized by gguf-py where it can, else
                           random blocks.
  types.safetensors        what gguf.quants.dequantize makes of them, F32 [256], by layer and type name.
  tokens.json              {tokenizer.ggml.pre: [[text, ids], ...]}: what tokenizers of Hugging Face's parts make of TEXTS,
                           over the one vocabulary that both models hold.
"""

import json
import sys
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf.quants import dequantize, quantize
from safetensors.numpy import save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import Qwen2Tokenizer
from transformers.convert_slow_tokenizer import TikTokenConverter

HIDDEN, HEADS, KV_HEADS, HEAD_DIM, FFN = 32, 4, 2, 4, 8
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEXT = (
    "The capital of France is Paris, the capital of Spain is Madrid, and the river that runs through the city of Paris "
    "is the Seine. It's 1789 or 2024; they'll say it's the same. Die Straße führt über die Brücke.\n\n"
    "in 2024 and 2024 and 2024:\n\nTHEY'LL THEY'LL see 2024;\n\n"
)
# Block types of the committed file; the models hold BF16, F16 and F32 too.
COMMON = "Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_NL IQ4_XS".split()
TEXTS = [
    "The capital of France is",
    "it's 2024, THEY'LL see 12024!",
    "  two spaces\tand a tab \n\n\nthree lines:\n\nTHE ",
    "Straße über naïve café 東京 🙂",
    "e\u0301 decomposed",
    "<|im_start|>user\nHello<|im_end|>\n<tool>x</tool>",
    "",
]


def pattern(name, shape):
    """The value k / 8 at row i, column j with k = -8 in every 32nd column, else one of -7..=7: exact in every type."""
    seed = sum(name.encode())
    i, j = np.meshgrid(np.arange(shape[0]), np.arange(shape[-1] if len(shape) > 1 else 1), indexing="ij")
    k = np.where(j % 32 == 0, -8, (i * 31 + j * 17 + i * j + seed) % 15 - 7)
    k = k if len(shape) > 1 else (i * 31 + seed) % 15 - 7
    return (k / 8).astype(np.float32).reshape(shape)


def interleave(weights, heads):
    """llama.cpp, convert_hf_to_gguf.py, LlamaModel.permute."""
    split = weights.reshape(heads, 2, weights.shape[0] // heads // 2, *weights.shape[1:])
    return split.swapaxes(1, 2).reshape(weights.shape)


def vocabulary():
    """A byte-level encoding trained on TEXT: specials first as in SmolLM2, one user-defined token, one row of padding."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=300, min_frequency=1, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([TEXT], trainer)
    model = json.loads(tokenizer.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    kinds = [3] * len(SPECIAL) + [1] * (len(tokens) - len(SPECIAL))
    tokens += ["<tool>", f"[PAD{len(tokens) + 1}]"]
    return tokens, kinds + [4, 5], [tuple(m) for m in model["merges"]]


def write_model(path, arch, pre, vocab, tied):
    tokens, kinds, merges = vocab
    w = gguf.GGUFWriter(path, arch)
    w.add_block_count(1)
    w.add_context_length(64)
    w.add_embedding_length(HIDDEN)
    w.add_feed_forward_length(FFN)
    w.add_head_count(HEADS)
    w.add_head_count_kv(KV_HEADS)
    w.add_key_length(HEAD_DIM)
    w.add_value_length(HEAD_DIM)
    w.add_rope_dimension_count(HEAD_DIM)
    w.add_rope_freq_base(100000.0 if arch == "llama" else 1000000.0)
    w.add_layer_norm_rms_eps(1e-5 if arch == "llama" else 1e-6)
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre(pre)
    w.add_token_list(tokens)
    w.add_token_types(kinds)
    w.add_token_merges([f"{a} {b}" for a, b in merges])
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)
    w.add_pad_token_id(2)
    w.add_add_bos_token(False)

    def add(name, shape, kind, heads=None):
        values = pattern(name, shape)
        if arch == "llama" and heads:
            values = interleave(values, heads)
        if kind == Type.F32:
            w.add_tensor(name, values)
        elif kind == Type.F16:
            w.add_tensor(name, values.astype(np.float16))
        else:
            data = quantize(values, kind)
            assert (dequantize(data, kind) == values).all(), (name, kind)
            w.add_tensor(name, data, raw_dtype=kind)

    q, kv = HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM
    add("token_embd.weight", (len(tokens), HIDDEN), Type.Q4_0)
    add("output_norm.weight", (HIDDEN,), Type.F32)
    add("blk.0.attn_norm.weight", (HIDDEN,), Type.F32)
    add("blk.0.attn_q.weight", (q, HIDDEN), Type.Q4_0, HEADS)
    add("blk.0.attn_k.weight", (kv, HIDDEN), Type.F16, KV_HEADS)
    add("blk.0.attn_v.weight", (kv, HIDDEN), Type.BF16)
    add("blk.0.attn_output.weight", (HIDDEN, q), Type.F32)
    add("blk.0.ffn_norm.weight", (HIDDEN,), Type.F32)
    add("blk.0.ffn_gate.weight", (FFN, HIDDEN), Type.Q4_0)
    add("blk.0.ffn_up.weight", (FFN, HIDDEN), Type.Q5_0 if arch == "llama" else Type.BF16)
    add("blk.0.ffn_down.weight", (HIDDEN, FFN), Type.F16)
    if arch == "qwen2":
        add("blk.0.attn_q.bias", (q,), Type.F32)
        add("blk.0.attn_k.bias", (kv,), Type.F32)
        add("blk.0.attn_v.bias", (kv,), Type.F32)
    if not tied:
        add("output.weight", (len(tokens), HIDDEN), Type.Q4_0)
    finish(w)


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def blocks(kind, rng):
    """One row of 256 values in type `kind`, and the values."""
    try:
        data = quantize((rng.standard_normal((1, 256)) / 8).astype(np.float32), kind)
    except NotImplementedError:
        block, size = gguf.GGML_QUANT_SIZES[kind]
        while True:
            data = rng.integers(0, 256, (1, 256 // block * size), dtype=np.uint8)
            values = dequantize(data, kind)
            if np.isfinite(values).all() and 1e-3 < np.abs(values).max() < 100:
                break
    return data, dequantize(data, kind)


def write_types(path, every):
    rng = np.random.default_rng(7)
    known = [kind for kind in Type if kind in gguf.quants._type_traits and kind != Type.NVFP4]
    kinds = [kind for kind in known if every or kind.name in COMMON]
    w = gguf.GGUFWriter(path, "qwen2")
    w.add_block_count(len(kinds))
    w.add_context_length(64)
    w.add_embedding_length(256)
    w.add_feed_forward_length(1)
    w.add_head_count(1)
    w.add_rope_freq_base(10000.0)
    w.add_layer_norm_rms_eps(1e-6)
    w.add_tokenizer_model("llama")
    w.add_tensor("token_embd.weight", np.zeros((1, 1), np.float32))
    expected = {}
    np.seterr(all="ignore")
    for layer, kind in enumerate(kinds):
        name = f"blk.{layer}.ffn_up.weight"
        data, values = blocks(kind, rng)
        w.add_tensor(name, data, raw_dtype=kind)
        expected[f"{layer}.{kind.name}"] = values.astype(np.float32).reshape(256)
    finish(w)
    return expected


def byte_level(ids, merges, pre, ignore_merges=False):
    tokenizer = Tokenizer(models.BPE(vocab=ids, merges=merges, ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer = pre
    tokenizer.decoder = decoders.ByteLevel()
    return with_added(tokenizer)


def with_added(tokenizer):
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.add_tokens([AddedToken("<tool>", normalized=False)])
    return tokenizer


def expected_tokens(vocab):
    tokens, kinds, merges = vocab
    ids = {t: i for i, (t, kind) in enumerate(zip(tokens, kinds)) if kind != 5}
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False)
    digits = pre_tokenizers.Digits(individual_digits=True)
    # Llama 3 splits by the pattern that is this converter's default.
    split = pre_tokenizers.Split(Regex(TikTokenConverter().pattern), "isolated")
    plain = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizers = {
        "smollm": byte_level(ids, merges, pre_tokenizers.Sequence([digits, bytes_])),
        "gpt-2": byte_level(ids, merges, bytes_),
        "llama-bpe": byte_level(ids, merges, pre_tokenizers.Sequence([split, plain]), ignore_merges=True),
        "qwen2": with_added(Qwen2Tokenizer(vocab=ids, merges=merges)._tokenizer),
    }
    return {name: [[text, t.encode(text).ids] for text in TEXTS] for name, t in tokenizers.items()}


def main():
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "crates/model/tests/golden/gguf_tiny")
    out.mkdir(parents=True, exist_ok=True)
    vocab = vocabulary()
    write_model(out / "llama.gguf", "llama", "smollm", vocab, tied=True)
    write_model(out / "qwen2.gguf", "qwen2", "qwen2", vocab, tied=False)
    save_file(write_types(out / "types.gguf", "--every-type" in sys.argv), out / "types.safetensors")
    (out / "tokens.json").write_text(json.dumps(expected_tokens(vocab), ensure_ascii=True) + "\n")


if __name__ == "__main__":
    main()
