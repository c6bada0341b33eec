"""Makes the goldens under tests/goldens/peft: adapters that PEFT wrote, and logits with them.

Run by hand; rewrites what it is asked for, the same every time:

    python scripts/goldens/models/make_peft_goldens.py [METHOD_FAMILY ...]

Last run with Python 3.12.14, torch 2.13.0 (CPU), transformers 5.23.0, peft 0.21.2. A base is the
class of `tests/goldens/families` that `BASES` names, with the weights of `_weights.py`; the
tensors of an adapter are drawn by the same rule, and stored, as PEFT stores them. A folder
`<method>_<family>` has PEFT's `adapter_config.json` and `adapter_model.safetensors`, and
`expected.safetensors`: "logits" of every `EACH`th token of the family's padded inputs; its metadata
say the class and the versions.
"""

import json
import shutil
import sys
import warnings
from pathlib import Path
from typing import Any

import _families as families
import numpy as np
import peft
import torch
import transformers
from _weights import uniform
from make_family_goldens import build, tensors
from safetensors.numpy import save_file

ROOT = Path(__file__).resolve().parents[3] / "tests" / "goldens" / "peft"
EACH = 4
BASES = {
    "llama": "LlamaForCausalLM",
    "gpt2": "GPT2LMHeadModel",
    "bert": "BertForSequenceClassification",
    "t5": "T5ForConditionalGeneration",
    "phi3": "Phi3ForCausalLM",
    "gemma3_text": "Gemma3ForCausalLM",
    "deberta-v2": "DebertaV2ForSequenceClassification",
}
TASKS = {"bert": "SEQ_CLS", "t5": "SEQ_2_SEQ_LM", "deberta-v2": "SEQ_CLS"}
TARGETS = {  # one that is in the fused ones where there are such, and one whose input is wide
    "llama": ["q_proj", "down_proj"],
    "gpt2": ["c_attn", "mlp.c_proj"],
    "bert": ["query", "output.dense"],
    "t5": ["q", "wo"],
    "phi3": ["qkv_proj", "gate_up_proj"],
    "gemma3_text": ["1.self_attn.q_proj", "5.self_attn.q_proj", "5.mlp.down_proj"],
    "deberta-v2": ["conv.conv", "query_proj"],
}
WIDE = {"phi3": ["gate_up_proj"], "bert": ["output.dense"], "gpt2": ["mlp.c_proj"], "t5": ["wo"]}
WIDE |= {"gemma3_text": ["5.mlp.down_proj"], "deberta-v2": ["query_proj"]}
REST = {  # modules of deep bases that are left as they are
    "t5": r".*wo|.*\.block\.[12]\..*",
    "gemma3_text": r".*down_proj|.*\.[2-7]\..*",
}
TABLE = {"gpt2": "wte", "bert": "word_embeddings", "t5": "shared"}
ROWS = [3, 17, 40]


def methods(family: str) -> dict[str, Any]:
    """Returns the configurations that a family is adapted with, by the name of the method."""
    targets, task = TARGETS[family], TASKS.get(family, "CAUSAL_LM")
    table, wide = TABLE.get(family, "embed_tokens"), WIDE.get(family, ["down_proj"])
    some = {"task_type": task, "target_modules": targets}
    lora = {**some, "r": 2, "lora_alpha": 3, "fan_in_fan_out": family == "gpt2"}
    first = {**lora, "layers_to_transform": [1]}
    every = {**lora, "target_modules": "all-linear"}
    found = {
        "lora": peft.LoraConfig(**lora),
        "rslora": peft.LoraConfig(
            **every,
            use_rslora=True,
            rank_pattern={targets[0]: 3},
            alpha_pattern={rf"^.*\.1\..*{targets[0].split('.')[-1]}": 7},
            exclude_modules=REST.get(family, wide),
            bias="lora_only",
        ),
        "dora": peft.LoraConfig(**lora, use_dora=True),
        "bias": peft.LoraConfig(**first, lora_bias=True),
        "table": peft.LoraConfig(**{**lora, "target_modules": [table]}, ensure_weight_tying=True),
        "tokens": peft.LoraConfig(**first, trainable_token_indices={table: ROWS}),
        "ia3": peft.IA3Config(
            **some, feedforward_modules=wide, fan_in_fan_out=lora["fan_in_fan_out"]
        ),
    }
    if family != "gpt2":  # PEFT has neither for its Conv1D
        found["loha"] = peft.LoHaConfig(**some, r=2, alpha=3)
        found["lokr"] = peft.LoKrConfig(**some, r=2, alpha=3, decompose_both=True)
    if family == "llama":
        found["rows"] = peft.TrainableTokensConfig(
            task_type=task, target_modules=[table], token_indices=ROWS
        )
    if family == "t5":  # whose table PEFT adapts beside the two that are read
        del found["table"]
    if family == "deberta-v2":  # for its convolution
        return {name: found[name] for name in ("lora", "dora")}
    return found


def main() -> None:
    for family in BASES:
        for method, config in methods(family).items():
            name = f"{method}_{family}"
            if sys.argv[1:] and not {name, method, family} & {*sys.argv[1:]}:
                continue
            make(family, ROOT / name, config)
            size = sum(path.stat().st_size for path in (ROOT / name).iterdir())
            print(f"{name}: {size / 1e3:.1f} KB", flush=True)


def make(family: str, folder: Path, config: Any) -> None:
    """Writes one folder, and reads it again by PEFT itself."""
    table = families.load(family)
    inputs = tensors(families.for_class(BASES[family], families.make_inputs(table)["padded"]))
    plain = run(base(table), inputs)
    config.base_model_name_or_path = f"flaxmodels/{family}"
    model = peft.get_peft_model(base(table), config)
    model.peft_config["default"].base_model_name_or_path = f"flaxmodels/{family}"
    draw(model)
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    (folder / "README.md").unlink()
    sort_lists(folder / "adapter_config.json")
    again = peft.PeftModel.from_pretrained(base(table), folder)
    logits = run(model.eval(), inputs)
    assert np.abs(run(again, inputs) - logits).max() < 1e-6
    assert np.abs(plain - logits).max() > 1e-2, "the adapter does nothing"
    versions = {m.__name__: m.__version__ for m in (torch, transformers, peft)}
    save_file(
        {"logits": logits}, folder / "expected.safetensors", {"class": BASES[family], **versions}
    )


def base(table: families.Family) -> Any:
    name = BASES[table.model_type]
    return build(table, name, table.config_of(name))[0]


def draw(model: Any) -> None:
    """Gives each tensor that the adapter saves numbers by its name."""
    state = peft.get_peft_model_state_dict(model)
    drawn = {}
    for name, tensor in state.items():
        values = 0.4 * uniform(name, tuple(tensor.shape))
        around = tensor.numpy() if name.endswith("magnitude_vector") or "ia3_l" in name else 0
        if name.endswith(("bias", "classifier.weight")) or "trainable_tokens" in name:
            around = tensor.numpy()
        if name.endswith("base_layer.weight"):  # of a table, which is saved along
            around, values = tensor.numpy(), 0
        drawn[name] = torch.tensor(np.float32(around + values))
    result = peft.set_peft_model_state_dict(model, drawn)
    assert not result.unexpected_keys, result.unexpected_keys


def run(model: Any, inputs: dict[str, torch.Tensor]) -> np.ndarray:
    with torch.no_grad():
        logits = model(**inputs).logits.numpy()
    return np.ascontiguousarray(logits[:, ::EACH] if logits.ndim == 3 else logits)


def sort_lists(path: Path) -> None:
    """Sorts the lists that PEFT has as sets, so that each run writes the same."""
    values = json.loads(path.read_text())
    for name in ("target_modules", "exclude_modules", "feedforward_modules"):
        if isinstance(values.get(name), list):
            values[name].sort()
    path.write_text(json.dumps(values, indent=2, sort_keys=True))


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    main()
