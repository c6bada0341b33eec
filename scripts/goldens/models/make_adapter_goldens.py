"""Makes tests/goldens/adapters.safetensors: single layers with adapters of PEFT.

Run by hand; rewrites the file, the same every time:

    python scripts/goldens/models/make_adapter_goldens.py

Last run with Python 3.12.14, torch 2.13.0 (CPU), peft 0.21.2. Of every case there are its input
`x`, the base's `weight` and `bias`, the tensors of the adapters as PEFT has them, the output `y`,
the gradients of sum(y * probe) by each of them, and the `merged` weight and bias.
"""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import peft
import torch
from safetensors.numpy import save_file

FILE = Path(__file__).resolve().parents[3] / "tests" / "goldens" / "adapters.safetensors"
IN, OUT, ROWS, WINDOW = 12, 8, 10, 3
LINEAR, TABLE, CONV = "linear", "table", "conv"


class Base(torch.nn.Module):
    """A layer of each kind."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(IN, OUT)
        self.table = torch.nn.Embedding(ROWS, OUT)
        self.conv = torch.nn.Conv1d(IN, OUT, WINDOW, padding=1)


def lora(kind: str, **fields: Any) -> peft.LoraConfig:
    return peft.LoraConfig(**{"r": 2, "lora_alpha": 3, "target_modules": [kind], **fields})


CASES: dict[str, tuple[str, list[Any]]] = {
    "lora": (LINEAR, [lora(LINEAR)]),
    "rslora": (LINEAR, [lora(LINEAR, use_rslora=True)]),
    "lora_bias": (LINEAR, [lora(LINEAR, lora_bias=True)]),
    "dora": (LINEAR, [lora(LINEAR, use_dora=True)]),
    "lora_lora": (LINEAR, [lora(LINEAR), lora(LINEAR, r=3)]),
    "lora_dora": (LINEAR, [lora(LINEAR), lora(LINEAR, use_dora=True)]),
    "loha": (LINEAR, [peft.LoHaConfig(r=2, alpha=3, target_modules=[LINEAR])]),
    "lokr": (LINEAR, [peft.LoKrConfig(r=4, alpha=3, target_modules=[LINEAR])]),
    "lokr_thin": (
        LINEAR,
        [
            peft.LoKrConfig(
                r=1, alpha=3, target_modules=[LINEAR], decompose_both=True, decompose_factor=4
            )
        ],
    ),
    "ia3": (LINEAR, [peft.IA3Config(target_modules=[LINEAR], feedforward_modules=[])]),
    "ia3_input": (LINEAR, [peft.IA3Config(target_modules=[LINEAR], feedforward_modules=[LINEAR])]),
    "lora_table": (TABLE, [lora(TABLE)]),
    "dora_table": (TABLE, [lora(TABLE, use_dora=True)]),
    "tokens": (
        TABLE,
        [peft.TrainableTokensConfig(target_modules=[TABLE], token_indices=[7, 2])],
    ),
    "lora_conv": (CONV, [lora(CONV)]),
    "dora_conv": (CONV, [lora(CONV, use_dora=True)]),
    "loha_conv": (CONV, [peft.LoHaConfig(r=2, alpha=3, target_modules=[CONV])]),
}


def main() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    arrays: dict[str, np.ndarray] = {}
    for name, (kind, configs) in CASES.items():
        arrays |= {f"{name}/{key}": value for key, value in make(name, kind, configs).items()}
    save_file(arrays, FILE, {"torch": torch.__version__, "peft": peft.__version__})
    print(f"{len(arrays)} arrays, {FILE.stat().st_size / 1e3:.1f} KB")


def make(name: str, kind: str, configs: list[Any]) -> dict[str, np.ndarray]:
    torch.manual_seed(sum(name.encode()))
    base = Base()
    model = peft.get_peft_model(base, configs[0], "one")
    for config, adapter in zip(configs[1:], ("two",), strict=False):
        model.add_adapter(adapter, config)
    model.base_model.set_adapter(["one", "two"][: len(configs)])
    layer = getattr(model.base_model.model, kind)
    trained = {n: p for n, p in layer.named_parameters() if "base_layer" not in n}
    with torch.no_grad():
        for key, tensor in trained.items():
            kept = 1 if "magnitude" in key or "ia3" in key else 0
            tensor.copy_(kept * tensor + 0.4 * torch.randn_like(tensor))
    for tensor in trained.values():
        tensor.requires_grad_(True)
    x = inputs(kind)
    y = layer(x)
    y.backward(probe := torch.randn_like(y))
    found = {"x": x, "y": y, "probe": probe, "weight": layer.get_base_layer().weight.clone()}
    bias = getattr(layer.get_base_layer(), "bias", None)
    found |= {} if bias is None else {"bias": bias.clone()}
    found |= {f"field/{key}": tensor for key, tensor in trained.items()}
    found |= {f"grad/{key}": tensor.grad for key, tensor in trained.items()}
    layer.merge(safe_merge=True)
    found["merged"] = layer.get_base_layer().weight
    found |= {} if bias is None else {"merged_bias": layer.get_base_layer().bias}
    return {key: np.ascontiguousarray(value.detach().numpy()) for key, value in found.items()}


def inputs(kind: str) -> torch.Tensor:
    if kind == TABLE:
        return torch.tensor([[2, 7, 0, 9], [3, 3, 7, 1]])
    return torch.randn(2, IN, 5) if kind == CONV else torch.randn(2, 5, IN)


if __name__ == "__main__":
    main()
