"""Makes crates/model/tests/golden/{gpt2,neox,llama}_lora: adapters that PEFT wrote on the golden models, with the logits
that it computes. Needs torch, transformers, peft:

    python scripts/golden_adapters.py

With the run folder of an `etymon train` with `[lora]` and `merge = true` it checks instead: PEFT's logits of `model/`
against those of `merged/`, and of the base.
"""

import json
import sys
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

GOLDEN = Path(__file__).parent.parent / "crates/model/tests/golden"
TARGETS = {
    "gpt2": ["c_attn", "mlp.c_proj"],
    "neox": ["query_key_value", "dense_h_to_4h"],
    "llama": ["q_proj", "v_proj", "up_proj", "down_proj"],
}


def base(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()


def make(family):
    torch.manual_seed(5)
    # Names in an adapter are relative to its folder.
    model = base(GOLDEN / family)
    config = LoraConfig(
        r=3, lora_alpha=7, target_modules=TARGETS[family], fan_in_fan_out=family == "gpt2", task_type="CAUSAL_LM"
    )
    model = get_peft_model(model, config).eval()
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.2)
    model.peft_config["default"].base_model_name_or_path = f"../{family}"
    out = GOLDEN / f"{family}_lora"
    model.save_pretrained(out)
    (out / "README.md").unlink(missing_ok=True)
    ids = load_file(GOLDEN / family / "expected.safetensors")["input_ids.1"]
    with torch.no_grad():
        logits = model(ids[None]).logits[0]
        plain = base(GOLDEN / family)(ids[None]).logits[0]
    print(family, "adapters move the logits by up to", (logits - plain).abs().max().item())
    save_file({"input_ids": ids, "logits": logits.contiguous()}, out / "expected.safetensors")


def check(run):
    config = json.loads((run / "model/adapter_config.json").read_text())
    ids = torch.arange(1, 13)[None]
    with torch.no_grad():
        plain = base(config["base_model_name_or_path"])
        before = plain(ids).logits
        adapted = PeftModel.from_pretrained(plain, run / "model").eval()(ids).logits
        merged = base(run / "merged")(ids).logits
    print("adapters against merged:", (adapted - merged).abs().max().item())
    print("adapters against base:", (adapted - before).abs().max().item())


if __name__ == "__main__":
    if len(sys.argv) > 1:
        check(Path(sys.argv[1]))
    else:
        for family in TARGETS:
            make(family)
