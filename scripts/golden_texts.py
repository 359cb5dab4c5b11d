"""Golden scores of texts by shared tokens and n-grams, as the field's packages compute them.

Usage: python scripts/golden_texts.py    (from the repository root; needs rank-bm25 0.2.2 and data-selection 1.0.3)

Writes crates/attribution/tests/golden/texts.json: `train` and `queries` (id, text, input_ids), and by query and train
text `bm25` (BM25Okapi with the IDF of Lucene instead of its own, which has a floor), `dsir` (log importance weights, each
query a target of its own) and `dsir_joint` (all queries one target).
"""

import json
import math
import random
from pathlib import Path

import numpy as np
from data_selection.hashed_ngram_dsir import get_ngram_counts
from rank_bm25 import BM25Okapi

HARD = [
    "Don't stop: 3.14 is π — naïve café, ÀÉÎ_x1!? ... \"quoted\"",
    "日本語のテキスト、हिन्दी में पाठ. ½ and ² and Ⅷ",
    "tabs\tand\nlines\u00a0and\u2003spaces\x1cand separators",
    "ΣΊΣΥΦΟΣ İstanbul STRASSE ß",
]
WORDS = "the a of and king horse river house word light upon shall gave said water bread".split()


class Lucene(BM25Okapi):
    def _calc_idf(self, nd):
        self.idf = {w: math.log(1 + (self.corpus_size - n + 0.5) / (n + 0.5)) for w, n in nd.items()}


def main():
    draw = random.Random(0)
    texts = HARD + [" ".join(draw.choices(WORDS, k=draw.randint(2, 40))) + "." for _ in range(40)]
    questions = ["The king said: the water!", "naïve café, don't — 日本語", "bread and bread and light"]
    vocabulary = {}
    row = lambda kind, i, text: {
        "id": f"{kind}{i}",
        "text": text,
        "input_ids": [vocabulary.setdefault(w, len(vocabulary)) for w in text.split()],
    }
    train = [row("t", i, text) for i, text in enumerate(texts)]
    queries = [row("q", i, text) for i, text in enumerate(questions)]

    bm25 = Lucene([t["input_ids"] for t in train])
    counts = np.stack([get_ngram_counts(t["text"]) for t in train])
    log = lambda c: np.log(c / c.sum() + 1e-8)
    targets = [get_ngram_counts(q["text"]) for q in queries]
    dsir = [(counts @ (log(t) - log(counts.sum(0)))).tolist() for t in targets]
    golden = {
        "train": train,
        "queries": queries,
        "bm25": [bm25.get_scores(q["input_ids"]).tolist() for q in queries],
        "dsir": dsir,
        "dsir_joint": (counts @ (log(sum(targets)) - log(counts.sum(0)))).tolist(),
    }
    out = Path("crates/attribution/tests/golden/texts.json")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(golden, ensure_ascii=False) + "\n")


main()
