"""A small random ConvNet against PyTorch and kronfluence 1.0.1, on random images with labels.

    python scripts/golden_convnet.py tests/reference/convnet

Writes config.json, model.safetensors (as PyTorch's Sequential exports it), train.csv and query.csv, outputs of
PyTorch, and what kronfluence makes of the labels of the data: covariances and lambda as sums, their counts, EK-FAC scores at
heuristic damping. Computed in float64 from float32 weights.
"""

import json
import sys
import tempfile
from pathlib import Path

import torch
from kronfluence.analyzer import Analyzer, prepare_model
from kronfluence.arguments import FactorArguments, ScoreArguments
from kronfluence.task import Task
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

TRAIN, QUERIES, CLASSES, INPUT = 48, 5, 4, (2, 9, 8)
LAYERS = [
    {"conv": {"channels": 5, "kernel": 3, "padding": 1}},
    "relu",
    {"max_pool": 2},
    {"conv": {"channels": 6, "kernel": 2, "stride": 2}},
    "tanh",
    {"average_pool": 2},
    "flatten",
    {"linear": 7},
    "relu",
    {"linear": CLASSES},
]


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(2, 5, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(5, 6, 2, stride=2), nn.Tanh(),
            nn.AvgPool2d(2), nn.Flatten(), nn.Linear(6, 7), nn.ReLU(), nn.Linear(7, CLASSES),
        )

    def forward(self, x):
        return self.layers(x)


class Classify(Task):
    def compute_train_loss(self, batch, model, sample=False):
        x, y = batch
        assert not sample
        return F.cross_entropy(model(x), y, reduction="sum")

    def compute_measurement(self, batch, model):
        return self.compute_train_loss(batch, model)


def rows(path, x, y):
    lines = [",".join([f"x{i}" for i in range(x[0].numel())] + ["label"])]
    for values, label in zip(x, y):
        lines.append(",".join([repr(round(v, 6)) for v in values.flatten().tolist()] + [str(int(label))]))
    path.write_text("\n".join(lines) + "\n")


def main(out):
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    model = Net()
    x = torch.randn(TRAIN + QUERIES, *INPUT).mul(1e4).round().div(1e4)
    y = torch.randint(0, CLASSES, (TRAIN + QUERIES,))
    rows(out / "train.csv", x[:TRAIN].double(), y[:TRAIN])
    rows(out / "query.csv", x[TRAIN:].double(), y[TRAIN:])
    config = {"model_type": "convnet", "input": list(INPUT), "layers": LAYERS, "task": "classification"}
    (out / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, str(out / "model.safetensors"))

    model = model.double()
    data = torch.utils.data.TensorDataset(x.double(), y)
    train, queries = torch.utils.data.Subset(data, range(TRAIN)), torch.utils.data.Subset(data, range(TRAIN, len(data)))
    results = {"outputs": model(x[TRAIN:].double()).detach()}
    loss = F.cross_entropy(model(x[:TRAIN].double()), y[:TRAIN], reduction="sum")
    names = [k for k, _ in model.named_parameters()]
    for name, grad in zip(names, torch.autograd.grad(loss, list(model.parameters()))):
        results[f"grad.{name}"] = grad

    task = Classify()
    wrapped = prepare_model(model, task)
    with tempfile.TemporaryDirectory() as folder:
        analyzer = Analyzer("convnet", wrapped, task, cpu=True, output_dir=folder, disable_tqdm=True)
        d = torch.float64
        factor = FactorArguments(
            strategy="ekfac", use_empirical_fisher=True, activation_covariance_dtype=d, gradient_covariance_dtype=d,
            per_sample_gradient_dtype=d, lambda_dtype=d, eigendecomposition_dtype=d,
        )
        score = ScoreArguments(
            damping_factor=None, per_sample_gradient_dtype=d, precondition_dtype=d, score_dtype=d,
        )
        analyzer.fit_all_factors("f", train, per_device_batch_size=16, factor_args=factor)
        analyzer.compute_pairwise_scores(
            "s", "f", queries, train, per_device_query_batch_size=QUERIES, per_device_train_batch_size=16, score_args=score
        )
        results["ekfac"] = analyzer.load_pairwise_scores("s")["all_modules"].double()
        for kind in ("activation_covariance", "gradient_covariance", "lambda_matrix"):
            of_kind = analyzer.load_covariance_matrices("f") if "cov" in kind else analyzer.load_lambda_matrices("f")
            for layer, value in of_kind[kind].items():
                results[f"{layer}.{kind}"] = value.double()
        counts = analyzer.load_covariance_matrices("f")
        for kind in ("num_activation_covariance_processed", "num_gradient_covariance_processed"):
            for layer, value in counts[kind].items():
                results[f"{layer}.{kind}"] = value.long()
        for layer, value in analyzer.load_lambda_matrices("f")["num_lambda_processed"].items():
            results[f"{layer}.num_lambda_processed"] = value.long()
    save_file({k: v.contiguous() for k, v in results.items()}, str(out / "expected.safetensors"))
    for key, value in results.items():
        print(key, tuple(value.shape), value.flatten()[:2].tolist())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
