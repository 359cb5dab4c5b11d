"""Golden files of TRAK on the digits, by traker (0.3.2).

Usage: python scripts/golden_trak.py REFERENCE_DIR [OUT_DIR]    (default OUT_DIR: tests/reference/digits)

Needs torch, traker, safetensors, scipy. REFERENCE_DIR holds train.csv and query.csv (features x0..x63, label y),
ensemble10.safetensors (`model{0..9}.layers.{0,1,2}.{weight,bias}`: one recipe, ten seeds) and lds_ground_truth.npz
(`masks` [200, 1400]: halves of the train set; `query_loss` [200, 100]: losses after retraining on them, mean of ten
seeds). Writes

  ensemble.safetensors      the ten models
  lds.safetensors           `masks` [200, 175] u8, eight rows of the train set in a byte, the first one in the highest
                            bit; `query_loss` [200, 100]
  trak.safetensors          `scores.1`, `scores.10` [100, 1400] f16 of ranks / 1400: where traker puts each train row of
                            each query with that many models, Rademacher projection to 512, projector seed 0, lambda 0
  trak_solver.safetensors   one model, 200 train rows, 10 queries, 32 dimensions: traker's own `features` [200, 32] and
                            `queries` [10, 32] (projected gradients), `weights` [200] (1 - p) and `scores` [10, 200]

and prints how well two projector seeds of traker agree, and the LDS of each.
"""

import csv
import logging
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from scipy.stats import rankdata, spearmanr
from trak import TRAKer
from trak.projectors import BasicProjector, ProjectionType

SIZES = [64, 128, 64, 10]


def rows(path):
    with open(path) as file:
        table = [[float(x) for x in row] for row in list(csv.reader(file))[1:]]
    table = np.array(table)
    return torch.tensor(table[:, :-1], dtype=torch.float32), torch.tensor(table[:, -1], dtype=torch.int64)


class Mlp(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.ModuleList(torch.nn.Linear(a, b) for a, b in zip(SIZES, SIZES[1:]))

    def forward(self, x):
        for layer in self.layers[:-1]:
            x = torch.relu(layer(x))
        return self.layers[-1](x)


def traker(models, train, query, dim, seed):
    """Scores [Q, N], and what traker stores of the last model."""
    n, q = len(train[1]), len(query[1])
    model = Mlp().eval()
    n_params = sum(p.numel() for p in model.parameters())
    # At least two blocks: a single one is not made again after traker has freed it.
    block = min(100, dim // 2)
    projector = BasicProjector(n_params, dim, seed, ProjectionType.rademacher, "cpu", block_size=block)
    with tempfile.TemporaryDirectory() as folder:
        trak = TRAKer(
            model, "image_classification", n, save_dir=folder, device="cpu", projector=projector,
            proj_dim=dim, use_half_precision=False, logging_level=logging.ERROR,
        )
        started = time.perf_counter()
        for i, weights in enumerate(models):
            trak.load_checkpoint(weights, model_id=i)
            for at in range(0, n, 200):
                part = slice(at, min(at + 200, n))
                trak.featurize(batch=[x[part] for x in train], num_samples=part.stop - at)
        seconds = time.perf_counter() - started
        trak.finalize_features()
        features = np.array(trak.saver.current_store["grads"])
        weights_of_rows = np.array(trak.saver.current_store["out_to_loss"])
        for i, weights in enumerate(models):
            trak.start_scoring_checkpoint("queries", weights, model_id=i, num_targets=q)
            trak.score(batch=query, num_samples=q)
        scores = np.array(trak.finalize_scores(exp_name="queries")).T
        queries = np.array(trak.saver.current_store["queries_grads"])
    print(f"traker: {len(models)} models, dim {dim}: {n * len(models) / seconds:.0f} train examples/s featurized")
    return scores, features, queries, weights_of_rows[:, 0]


def lds(scores, truth):
    predicted = truth["masks"].astype(float) @ scores.T
    return np.mean([spearmanr(predicted[:, q], -truth["query_loss"][:, q])[0] for q in range(scores.shape[0])])


def agreement(a, b):
    return np.mean([spearmanr(x, y)[0] for x, y in zip(a, b)])


def main():
    source = Path(sys.argv[1])
    out = Path(sys.argv[2] if len(sys.argv) > 2 else "tests/reference/digits")
    train, query = rows(source / "train.csv"), rows(source / "query.csv")
    tensors = load_file(source / "ensemble10.safetensors")
    truth = np.load(source / "lds_ground_truth.npz")
    names = list(Mlp().state_dict())
    models = [{name: torch.tensor(tensors[f"model{i}.{name}"]) for name in names} for i in range(10)]

    save_file(tensors, out / "ensemble.safetensors")
    masks = np.packbits(truth["masks"], axis=1)
    save_file({"masks": masks, "query_loss": truth["query_loss"]}, out / "lds.safetensors")

    by_seed = {(k, seed): traker(models[:k], train, query, 512, seed)[0] for k in (1, 10) for seed in (0, 1)}
    for k in (1, 10):
        values = [lds(by_seed[k, seed], truth) for seed in (0, 1)]
        print(f"{k} models: LDS {values[0]:.4f} and {values[1]:.4f}, ", end="")
        print(f"rank correlation of two seeds {agreement(by_seed[k, 0], by_seed[k, 1]):.4f}")
    ranks = {f"scores.{k}": rankdata(by_seed[k, 0], axis=1) / 1400 for k in (1, 10)}
    save_file({name: x.astype(np.float16) for name, x in ranks.items()}, out / "trak.safetensors")

    few = [x[:200] for x in train]
    scores, features, queries, weights = traker(models[:1], few, [x[:10] for x in query], 32, 0)
    tensors = {"features": features, "queries": queries, "weights": weights, "scores": scores}
    save_file({k: np.ascontiguousarray(x) for k, x in tensors.items()}, out / "trak_solver.safetensors")


main()
