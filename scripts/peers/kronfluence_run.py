"""kronfluence on one job of `cargo xtask bench peers` (see common.py).

Its best settings on a CPU: the model and every intermediate in the job's precision (eigendecompositions in float64, as
it advises), whole sequences per batch, all queries in one batch so that the train set is gone over once, no offloading,
no shared parameters, no partitions, no low rank. Labels are drawn from the model.
"""

from common import Job, load_linear_model, module_names, read_ids

job = Job()

import torch
import torch.nn.functional as F
from kronfluence.analyzer import Analyzer, prepare_model
from kronfluence.arguments import FactorArguments, ScoreArguments
from kronfluence.score import pairwise
from kronfluence.task import Task

MODULES = module_names(job.layers)


class LanguageModeling(Task):
    def compute_train_loss(self, batch, model, sample=False):
        logits = model(batch[0]).logits.flatten(0, 1)
        if sample:
            with torch.no_grad():
                labels = torch.multinomial(torch.softmax(logits.detach().float(), dim=-1), 1).flatten()
        else:
            labels = batch[1].flatten()
        return F.cross_entropy(logits, labels, reduction="sum")

    def compute_measurement(self, batch, model):
        return self.compute_train_loss(batch, model)

    def get_influence_tracked_modules(self):
        return MODULES


def dataset(ids):
    # The last token is predicted, never an input: the positions are those that carry a loss term.
    rows = torch.tensor(ids)
    return torch.utils.data.TensorDataset(rows[:, :-1].contiguous(), rows[:, 1:].contiguous())


def main():
    train, queries = dataset(read_ids(job.data, job.rows)), dataset(read_ids(job.queries))
    positions = train.tensors[0].numel()
    dtype = job.torch_dtype
    task = LanguageModeling()
    model = prepare_model(load_linear_model(job.model, dtype), task)
    analyzer = Analyzer("bench", model, task, cpu=True, disable_tqdm=True, output_dir=str(job.out))
    factor_args = FactorArguments(
        strategy="ekfac",
        use_empirical_fisher=False,
        covariance_max_examples=None,
        lambda_max_examples=None,
        activation_covariance_dtype=dtype,
        gradient_covariance_dtype=dtype,
        per_sample_gradient_dtype=dtype,
        lambda_dtype=dtype,
        eigendecomposition_dtype=torch.float64,
    )
    score_args = ScoreArguments(
        damping_factor=None,
        per_sample_gradient_dtype=dtype,
        precondition_dtype=dtype,
        score_dtype=dtype,
    )
    fit = dict(factors_name="f", factor_args=factor_args, overwrite_output_dir=True)
    data = dict(dataset=train, per_device_batch_size=job.batch)
    job.ready()
    if "covariance" in job.phases:
        with job.timed("covariance", positions):
            analyzer.fit_covariance_matrices(**fit, **data)
    if "eigendecomposition" in job.phases:
        with job.timed("eigendecomposition"):
            analyzer.perform_eigendecomposition(**fit)
    if "correction" in job.phases:
        with job.timed("correction", positions):
            analyzer.fit_lambda_matrices(**fit, **data)
    if "scores" in job.phases:
        # The pass over the train set, without the queries before it.
        job.wrap(pairwise, "compute_dot_products_with_loader", "scores", positions)
        with job.timed("queries"):
            analyzer.compute_pairwise_scores(
                scores_name="s",
                factors_name="f",
                query_dataset=queries,
                train_dataset=train,
                per_device_query_batch_size=len(queries),
                per_device_train_batch_size=job.batch,
                score_args=score_args,
                overwrite_output_dir=True,
            )
        job.seconds["queries"] -= job.seconds["scores"]
    job.done(f"batches of {job.batch} sequences", ["kronfluence", "transformers"])


if __name__ == "__main__":
    main()
