"""bergson on one job of `cargo xtask bench peers` (see common.py).

Its EK-FAC (`bergson ekfac`: queries, factors, inverse, scores) and its gradient index (`bergson build`, then a search),
called step by step on ready token ids, since its commands take text. Model, factors and scores are in the job's
precision; biases are counted, as the others do. Labels are drawn from the model.
"""

import shutil
from pathlib import Path

from common import Job, module_names, read_ids

job = Job()

import torch
from bergson.build import build_worker
from bergson.config.config import HessianConfig, IndexConfig, InversionConfig, PreprocessConfig, ScoreConfig
from bergson.hessians import apply_hessian, hessian_approximations
from bergson.query.attributor import Attributor
from bergson.score import score
from datasets import Dataset

PRECISION = {"f32": "fp32", "bf16": "bf16"}[job.dtype]
PROJECTION = 16


def dataset(ids):
    return Dataset.from_dict({"input_ids": ids, "length": [len(row) for row in ids]})


def index_config(path: Path, **more) -> IndexConfig:
    """A step that writes to `path`; bergson leaves it at `path.part`."""
    shutil.rmtree(f"{path}.part", ignore_errors=True)
    Path(f"{path}.part").mkdir(parents=True)
    blocks = set(job.layers)
    untapped = [f"h.{b}.*" for b in range(job.blocks) if b not in blocks]
    batch = dict(token_batch_size=job.batch * (job.length + 1))
    filters = dict(filter_modules=",".join(untapped) or None, include_bias=True)
    return IndexConfig(run_path=str(path), model=job.model, precision=PRECISION, **filters, **batch, **more)


def finish(path: Path) -> Path:
    shutil.rmtree(path, ignore_errors=True)
    shutil.move(f"{path}.part", path)
    return path


def fit(train, positions: int) -> Path:
    path, module = job.out / "hessian", hessian_approximations
    passes = lambda call: "correction" if call.get("ev_correction") else "covariance"
    job.wrap(module, "collect_hessians", passes)
    job.wrap(module, "eigendecompose_owned", "eigendecomposition")
    config = HessianConfig(method="kfac", ev_correction=True, hessian_dtype=PRECISION)
    module.hessian_worker(0, 0, 1, index_config(path), config, train)
    job.positions |= dict(covariance=positions, correction=positions)
    return finish(path)


def score_queries(train, queries, hessian: Path, positions: int) -> None:
    with job.timed("queries"):
        raw, ready = job.out / "raw", job.out / "ready"
        build_worker(0, 0, 1, index_config(raw), PreprocessConfig(), queries)
        raw = finish(raw)
        shutil.rmtree(ready, ignore_errors=True)
        config = dict(hessian_method_path=str(hessian), gradient_path=str(raw), run_path=str(ready))
        config = apply_hessian.EkfacConfig(**config, ev_correction=True, apply_batch_size=len(queries))
        apply_hessian.apply_worker(0, 0, 1, config, InversionConfig())
    job.wrap(score, "collect_gradients", "scores", positions)
    config = ScoreConfig(query_path=str(ready), precision=PRECISION)
    with job.timed("queries"):
        score.score_worker(0, 0, 1, index_config(job.out / "scores"), config, PreprocessConfig(), train)
    job.seconds["queries"] -= job.seconds["scores"]


def index(train, queries, positions: int) -> None:
    """One projected gradient per row and layer, then the rows of the largest products with each query's."""
    build = lambda path, rows: build_worker(
        0, 0, 1, index_config(path, projection_dim=PROJECTION), PreprocessConfig(), rows
    )
    with job.timed("index_build", positions):
        build(job.out / "index", train)
    path = finish(job.out / "index")
    with job.timed("index_ask"):
        build(job.out / "asked", queries)
        asked = Attributor(finish(job.out / "asked")).grads
        Attributor(path).search(asked, k=20)


def main():
    ids = read_ids(job.data, job.rows)
    train, queries = dataset(ids), dataset(read_ids(job.queries))
    job.blocks, job.length = job.n_blocks, len(ids[0]) - 1
    positions = len(ids) * job.length
    shutil.rmtree(job.out, ignore_errors=True)
    job.out.mkdir(parents=True)
    job.ready()
    settings = f"batches of {job.batch} sequences"
    if "index" in job.phases:
        index(train, queries, positions)
        settings += f", gradients of a layer projected to {PROJECTION} × {PROJECTION}"
    else:
        score_queries(train, queries, fit(train, positions), positions)
    job.done(settings, ["bergson", "transformers"])


if __name__ == "__main__":
    main()
