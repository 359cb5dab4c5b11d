"""Models and data of `cargo xtask bench peers`: random GPT-2s and random tokens, from a fixed seed.

Usage: python scripts/peers/models.py OUT [NAME=ROWS ...]      (default: S=512 M=64)

OUT/NAME is a Hugging Face folder (GPT-2 with its Conv1D weights, head tied), OUT/NAME.train.jsonl has ROWS rows of
`input_ids` and OUT/NAME.queries.jsonl has 20. A row has `length + 1` tokens: `length` inputs, each predicting the next
one, so that every tool works on `length` positions. The table of positions is longer than a row (4096), since bergson
takes no batch of more tokens than that; nobody computes on the rest.

Nothing is trained: the speed of dense products does not depend on the numbers in them.
"""

import json
import sys
from pathlib import Path

import torch
from transformers import GPT2Config, GPT2LMHeadModel

MODELS = {
    "S": dict(n_layer=4, n_embd=256, n_head=4, vocab_size=2048, length=128),
    "M": dict(n_layer=12, n_embd=768, n_head=12, vocab_size=8192, length=256),
}
SEED, QUERIES, POSITIONS = 0, 20, 4096


def write_rows(path: Path, rows: int, length: int, vocab: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(vocab, (rows, length + 1), generator=generator)
    with path.open("w") as file:
        for i, row in enumerate(tokens.tolist()):
            file.write(json.dumps({"id": f"r{i}", "input_ids": row}) + "\n")


def write(out: Path, name: str, rows: int) -> None:
    shape = dict(MODELS[name])
    length = shape.pop("length")
    torch.manual_seed(SEED)
    tokens = dict(bos_token_id=0, eos_token_id=0)
    no_dropout = dict(attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.0)
    model = GPT2LMHeadModel(GPT2Config(n_positions=POSITIONS, **shape, **tokens, **no_dropout))
    model.save_pretrained(out / name)
    write_rows(out / f"{name}.train.jsonl", rows, length, shape["vocab_size"], SEED + 1)
    write_rows(out / f"{name}.queries.jsonl", QUERIES, length, shape["vocab_size"], SEED + 2)


def main() -> None:
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    for pair in sys.argv[2:] or ["S=512", "M=64"]:
        name, rows = pair.split("=")
        write(out, name, int(rows))


if __name__ == "__main__":
    main()
