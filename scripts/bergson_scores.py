"""Scores of bergson for a Hugging Face GPT-2, as tables that `etymon evaluate` judges.

    pip install torch==2.15.0 bergson==2.5.1 transformers==5.23.0 pyarrow && pip uninstall -y torchaudio
    python3 scripts/bergson_scores.py MODEL TRAIN.jsonl QUERIES.jsonl OUT [--labels data|model] [--methods ekfac cg astra]

TRAIN and QUERIES have `input_ids` (and `completion_start` for queries; without one everything after the first token is predicted).
The tapped layers are attention and MLP with their biases, damping is 0.1 times the mean eigenvalue of a layer, losses are
sums over positions: the defaults of both tools, which bergson is asked for explicitly. `cg` and `astra` are its solvers on
all of TRAIN (`cg`) or batches of 16 rows (`astra`), started and preconditioned by its EK-FAC.
"""

import argparse
import json
import os
import shutil
import time
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import bergson.hessians.astra as astra
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from bergson.build import build_worker
from bergson.config.config import AstraConfig, HessianConfig, IndexConfig, InversionConfig, PreprocessConfig, ScoreConfig
from bergson.data import load_scores
from bergson.hessians import apply_hessian
from bergson.hessians.hessian_approximations import hessian_worker
from bergson.score import score
from datasets import Dataset

SOLVERS = {"cg": dict(solver="cg", num_steps=30), "astra": dict(solver="sgd", num_steps=300)}


def rows(path):
    return [json.loads(line) for line in open(path)]


def dataset(examples):
    """Positions before the completion have no label."""
    ids = [e["input_ids"] for e in examples]
    starts = [e.get("completion_start", 1) for e in examples]
    labels = [[-100] * start + row[start:] for row, start in zip(ids, starts)]
    return Dataset.from_dict({"input_ids": ids, "labels": labels, "length": [len(row) for row in ids]})


class Bergson:
    def __init__(self, model, train, queries, out, labels):
        self.model, self.out, self.labels = model, out, labels
        self.train, self.queries = dataset(train), dataset(queries)
        self.names = [e["id"] for e in train], [e["id"] for e in queries]
        self.context = max(len(e["input_ids"]) for e in train + queries)
        shutil.rmtree(out / "work", ignore_errors=True)

    def step(self, name):
        """The settings of a step that writes to `name`; bergson leaves it at `name.part`."""
        path = self.out / "work" / name
        Path(f"{path}.part").mkdir(parents=True)
        fixed = dict(precision="fp32", include_bias=True, loss_reduction="sum")
        return path, IndexConfig(run_path=str(path), model=str(self.model), token_batch_size=self.context, **fixed)

    @staticmethod
    def finish(path):
        shutil.move(f"{path}.part", path)
        return path

    def ekfac(self):
        path, config = self.step("hessian")
        hessian = HessianConfig(method="kfac", ev_correction=True, hessian_dtype="fp32", use_dataset_labels=self.labels == "data")
        hessian_worker(0, 0, 1, config, hessian, self.train)
        self.hessian = self.finish(path)
        path, config = self.step("raw")
        build_worker(0, 0, 1, config, PreprocessConfig(), self.queries)
        self.raw = self.finish(path)
        self.ready = self.out / "work" / "ekfac"
        paths = dict(hessian_method_path=str(self.hessian), gradient_path=str(self.raw), run_path=str(self.ready))
        config = apply_hessian.EkfacConfig(**paths, ev_correction=True, apply_batch_size=len(self.queries))
        apply_hessian.apply_worker(0, 0, 1, config, InversionConfig())
        return self.ready

    def solved(self, name):
        path, config = self.step(f"{name}-solve")
        solutions = self.out / "work" / name
        shutil.copytree(self.ready, solutions)
        astra.setup_data_pipeline = lambda _: (self.train, None)
        size = len(self.train) if name == "cg" else 16
        settings = AstraConfig(batch_size=size, **SOLVERS[name])
        paths = astra.AstraPaths(*map(str, (self.raw, self.ready, self.hessian, solutions)))
        astra.astra_worker(0, 0, 1, paths, config, InversionConfig(), settings, True)
        return solutions

    def table(self, name, queries):
        path, config = self.step(f"{name}-scores")
        score.score_worker(0, 0, 1, config, ScoreConfig(query_path=str(queries), precision="fp32"), PreprocessConfig(), self.train)
        scores = load_scores(self.finish(path))
        scores = np.asarray(scores[:], dtype=np.float32)
        folder = self.out / f"bergson-{name}"
        folder.mkdir(parents=True, exist_ok=True)
        columns = {"train_id": self.names[0], **{q: scores[:, i] for i, q in enumerate(self.names[1])}}
        pq.write_table(pa.table(columns), folder / "scores-00000.parquet")


def main():
    parser = argparse.ArgumentParser()
    for name in ("model", "train", "queries", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--labels", choices=["data", "model"], default="model")
    parser.add_argument("--methods", nargs="+", default=["ekfac", "cg", "astra"])
    args = parser.parse_args()
    tool = Bergson(args.model, rows(args.train), rows(args.queries), args.out, args.labels)
    for name in args.methods:
        start = time.time()
        tool.table(name, tool.ekfac() if name == "ekfac" else tool.solved(name))
        print(f"{name}: {time.time() - start:.1f} s", flush=True)


if __name__ == "__main__":
    main()
