"""dattri on one job of `cargo xtask bench peers` (see common.py).

Its EK-FAC is tried on two rows; when it cannot do sequences, that is the answer. Its gradient index is LoGra
(Choe et al. 2024): projected gradients of every row, an empirical Fisher over them, then the products with the queries'.
"""

from common import Job, load_linear_model, module_names, read_ids

job = Job()

import torch
import torch.nn.functional as F
from dattri.algorithm import IFAttributorEKFAC
from dattri.algorithm.logra import LoGraAttributor
from dattri.task import AttributionTask

PROJECTION = 16 * 16


def loader(ids, named=False):
    rows = torch.tensor(ids)
    pairs = list(zip(rows[:, :-1].contiguous(), rows[:, 1:].contiguous()))
    # LoGra runs the model once on a batch as it is, and takes the first row of a tuple for it: only a dict works.
    data = [dict(input_ids=x, labels=y) for x, y in pairs] if named else pairs
    return torch.utils.data.DataLoader(data, batch_size=job.batch, shuffle=False)


def loss_of(logits, labels):
    return F.cross_entropy(logits.flatten(0, -2), labels.flatten(), reduction="sum")


def try_ekfac(model, ids) -> str | None:
    """Why EK-FAC cannot be fitted on sequences, or nothing when it can."""

    def loss(parameters, data):
        logits = torch.func.functional_call(model, parameters, (data[0],)).logits
        return loss_of(logits, data[1]) / len(data[0])

    task = AttributionTask(loss_func=loss, model=model, checkpoints=model.state_dict())
    try:
        IFAttributorEKFAC(task, module_name=module_names(job.layers)).cache(loader(ids[:2]))
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def index(model, ids, positions):
    def loss(model, batch, device):
        return loss_of(model(batch["input_ids"]).logits, batch["labels"])

    task = AttributionTask(loss_func=loss, model=model, checkpoints=model.state_dict())
    names = module_names(job.layers)
    job.out.mkdir(parents=True, exist_ok=True)
    logra = LoGraAttributor(task, layer_names=names, proj_dim=PROJECTION, damping=0.1, cache_dir=str(job.out))
    train, queries = loader(ids, named=True), loader(read_ids(job.queries), named=True)
    with job.timed("index_build", positions):
        logra.cache(train)
    with job.timed("index_ask"):
        logra.attribute(train, queries)


def main():
    ids = read_ids(job.data, job.rows)
    positions = len(ids) * (len(ids[0]) - 1)
    model = load_linear_model(job.model, job.torch_dtype)
    job.ready()
    settings = f"batches of {job.batch} sequences"
    if "index" in job.phases:
        index(model, ids, positions)
        settings += ", LoGra, gradients of a layer projected to 16 × 16"
    else:
        problem = try_ekfac(model, ids)
        reason = f"dattri's EK-FAC stops on sequences: {problem}" if problem else "dattri's EK-FAC runs, but is not timed here"
        job.missing |= dict.fromkeys(["covariance", "eigendecomposition", "correction", "scores"], reason)
    job.done(settings, ["dattri", "transformers"])


if __name__ == "__main__":
    main()
