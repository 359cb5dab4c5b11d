"""What the peers' scripts share: the job, the rows, the clock, the answer.

A script gets its job as one JSON argument (the harness in xtask/src/bench writes it):

    model, data, queries   paths          out      a folder for what the tool writes
    layers                 tapped blocks, [0] or [0, 1, …]
    dtype                  f32 or bf16    threads, batch, rows: numbers
    phases                 which to run; later ones need the earlier ones

and prints one JSON object as its last line: `seconds` of each phase, `positions` that each phase of tokens went over,
`missing` (a phase the tool cannot do here, and why), `settings` and `versions`.
"""

import json
import os
import re
import sys
import time
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

LINEAR = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")


class Job:
    def __init__(self) -> None:
        self.start = time.perf_counter()
        job = json.loads(sys.argv[1])
        # Before torch is imported: its threads are made at import.
        os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(job["threads"])
        os.environ["HF_HUB_OFFLINE"] = "1"
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        self.__dict__.update(job)
        self.out = Path(job["out"])
        self.seconds: dict[str, float] = {}
        self.positions: dict[str, int] = {}
        self.missing: dict[str, str] = {}

    @property
    def torch_dtype(self):
        import torch

        return {"f32": torch.float32, "bf16": torch.bfloat16}[self.dtype]

    def ready(self) -> None:
        """Ends the start: imports and the model are loaded."""
        import torch

        torch.set_num_threads(self.threads)
        self.seconds["start"] = time.perf_counter() - self.start

    @contextmanager
    def timed(self, phase: str, positions: int | None = None):
        before = time.perf_counter()
        yield
        self.seconds[phase] = self.seconds.get(phase, 0.0) + time.perf_counter() - before
        if positions is not None:
            self.positions[phase] = positions

    def wrap(self, module, name: str, phase, positions: int | None = None) -> None:
        """Times every call of `module.name`; `phase` is its name, or says it from the call's keyword arguments."""
        inner = getattr(module, name)

        def outer(*args, **kwargs):
            with self.timed(phase(kwargs) if callable(phase) else phase, positions):
                return inner(*args, **kwargs)

        setattr(module, name, outer)

    def done(self, settings: str, packages: list[str]) -> None:
        versions = {name: version(name) for name in ["torch", *packages]}
        answer = dict(seconds=self.seconds, positions=self.positions, missing=self.missing)
        sys.stdout.flush()
        print(json.dumps(dict(**answer, settings=settings, versions=versions)), flush=True)


def read_ids(path: str, rows: int | None = None) -> list[list[int]]:
    with open(path) as file:
        ids = [json.loads(line)["input_ids"] for line in file]
    return ids[:rows]


def module_names(blocks: list[int], prefix: str = "transformer.h") -> list[str]:
    return [f"{prefix}.{block}.{linear}" for block in blocks for linear in LINEAR]


def load_linear_model(path: str, dtype):
    """GPT-2 with nn.Linear in place of Conv1D, the same numbers: kronfluence and dattri tap no Conv1D."""
    import torch
    from transformers import GPT2LMHeadModel
    from transformers.pytorch_utils import Conv1D

    model = GPT2LMHeadModel.from_pretrained(path, dtype=dtype).eval()
    for name, old in [(n, m) for n, m in model.named_modules() if isinstance(m, Conv1D)]:
        new = torch.nn.Linear(*old.weight.shape, dtype=dtype)
        new.weight.data.copy_(old.weight.T)
        new.bias.data.copy_(old.bias)
        parent, child = re.fullmatch(r"(.*)\.(\w+)", name).groups()
        setattr(model.get_submodule(parent), child, new)
    return model
