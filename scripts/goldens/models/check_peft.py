"""Compares adapters with PEFT itself; run by hand, where torch, transformers and peft are:

    python scripts/goldens/models/check_peft.py write FOLDER   with flaxmodels: bases, adapters
    python scripts/goldens/models/check_peft.py read FOLDER    with peft: opens them, strict keys

For each golden of tests/goldens/peft, `write` saves the base, the adapter as we write it, and our
logits; `read` opens both by PEFT, demands that no key is missing or left over, and compares logits.
Last run with peft 0.21.2, transformers 5.23.0, torch 2.13.0: every folder, 1e-4.
"""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
GOLDENS = ROOT / "tests" / "goldens" / "peft"
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "helpers"), str(ROOT / "scripts/goldens/models")]


def write(target: Path) -> None:
    import jax
    import numpy as np
    import reference
    from safetensors import safe_open

    for golden in sorted(GOLDENS.iterdir()):
        it = reference.load(golden.name.partition("_")[2])
        with safe_open(golden / "expected.safetensors", "np") as file:
            name = file.metadata()["class"]
        model, plain = it.load(name)
        params = model.load_adapter(plain, golden)
        folder = target / golden.name
        model.save_pretrained(plain, folder / "base", progress=False)
        model.save_pretrained(params, folder / "adapter", progress=False)
        inputs = it.inputs(name)
        out = jax.jit(lambda p, x, m=model: m.apply({"params": p}, **x).logits)(params, inputs)
        given = {key: np.asarray(value).tolist() for key, value in inputs.items()}
        (folder / "inputs.json").write_text(json.dumps({"class": name, "inputs": given}))
        np.save(folder / "logits.npy", np.asarray(out))
        print(f"{golden.name}: written", flush=True)


def read(target: Path) -> None:
    import numpy as np
    import peft
    import torch
    import transformers
    from safetensors.torch import load_file

    transformers.logging.set_verbosity_error()
    for folder in sorted(target.iterdir()):
        told = json.loads((folder / "inputs.json").read_text())
        cls = getattr(transformers, told["class"])
        base = cls.from_pretrained(folder / "base", attn_implementation="eager")
        config = peft.PeftConfig.from_pretrained(folder / "adapter")
        model = peft.get_peft_model(base, config).eval()
        state = load_file(folder / "adapter" / "adapter_model.safetensors")
        assert peft.get_peft_model_state_dict(model).keys() == state.keys(), folder.name
        result = peft.set_peft_model_state_dict(model, state)
        assert not result.unexpected_keys, result.unexpected_keys
        inputs = {key: torch.tensor(value) for key, value in told["inputs"].items()}
        with torch.no_grad():
            logits = model(**inputs).logits.numpy()
        worst = float(np.abs(logits - np.load(folder / "logits.npy")).max())
        print(f"{folder.name}: {worst:.1e}", flush=True)
        assert worst < 1e-4, folder.name


if __name__ == "__main__":
    {"write": write, "read": read}[sys.argv[1]](Path(sys.argv[2]))
