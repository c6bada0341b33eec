"""Does what we save open in the reference libraries, with every key used and the same outputs?

Run by hand, in three environments, on one folder:

    python scripts/check_reference.py write DIR      # ours: loads every golden and saves it again
    python scripts/check_reference.py torch DIR      # torch 2.13.0, Transformers 5.23.0
    python scripts/check_reference.py flax DIR       # jax 0.4.13, flax 0.7.0, Transformers 4.53.3

The last run's tables stand in docs/reference.md.
"""

import json
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
GOLDENS = ROOT / "tests" / "goldens"
WAYS = {
    "single": {},
    "sharded": {"max_shard_size": "20KB"},
    "msgpack": {"safe_serialization": False},
    "msgpack-sharded": {"safe_serialization": False, "max_shard_size": "20KB"},
}
OUTPUTS = (
    "logits start_logits end_logits prediction_logits seq_relationship_logits last_hidden_state"
).split()


def main() -> None:
    mode, folder = sys.argv[1], Path(sys.argv[2])
    {"write": write, "torch": check_torch, "flax": check_flax}[mode](folder)


def write(folder: Path) -> None:
    """Saves every golden in every way, with the inputs and our outputs beside it."""
    import jax

    from flaxmodels.auto import architecture

    for golden in sorted(GOLDENS.iterdir()):
        if golden.name.startswith("pruned-"):  # Transformers 5 can no longer prune
            continue
        source = golden / "checkpoint"
        cls = architecture(str(source))
        for scan in (False, True):
            model, params = cls.from_pretrained(source, scan_layers=scan)
            values = inputs(golden)
            out = jax.jit(model.apply)({"params": params}, **values)
            found = {name: np.asarray(getattr(out, name)) for name in OUTPUTS if has(out, name)}
            for way, options in WAYS.items():
                target = folder / f"{golden.name}.{way}.{'scan' if scan else 'loop'}"
                model.save_pretrained(params, target, **options)
                np.savez(target / "ours.npz", allow_pickle=False, **found)


def check_torch(folder: Path) -> None:
    """Loads the safetensors ones with PyTorch Transformers and compares."""
    import torch
    import transformers

    def run(target: Path, values: dict, name: str):
        cls = getattr(transformers, name)
        model, info = cls.from_pretrained(
            target, output_loading_info=True, attn_implementation="eager"
        )
        model = model.float().eval()
        with torch.no_grad():
            out = model(**{key: torch.tensor(value) for key, value in values.items()})
        odd = [key for kind in ("missing_keys", "unexpected_keys") for key in info[kind]]
        return odd + list(info["mismatched_keys"]), lambda key: getattr(out, key).numpy()

    report(folder, ("single", "sharded"), run, f"torch {torch.__version__}", transformers)


def check_flax(folder: Path) -> None:
    """Loads the msgpack ones with the old Flax classes and compares."""
    import jax
    import transformers

    def run(target: Path, values: dict, name: str):
        if not target.name.startswith("flax-"):  # the others have what old Flax cannot express
            return None
        cls = getattr(transformers, f"Flax{name}")
        out = cls.from_pretrained(target)(**values)
        return [], lambda key: np.asarray(getattr(out, key))

    ways = ("msgpack", "msgpack-sharded")
    report(folder, ways, run, f"jax {jax.__version__}", transformers)


def report(folder: Path, ways: tuple[str, ...], run, framework: str, transformers) -> None:
    """Prints a row per checkpoint class: how many files sets were tried, and the largest errors."""
    rows: dict[str, list] = {}
    for target in sorted(folder.iterdir()):
        golden, way, _ = target.name.rsplit(".", 2)
        if way not in ways:
            continue
        config = json.loads((target / "config.json").read_text())
        values = inputs(GOLDENS / golden)
        ours = np.load(target / "ours.npz")
        result = run(target, values, config["architectures"][0])
        if result is None:
            continue
        odd, output = result
        mask = values.get("attention_mask")
        error = max(largest(ours[key], output(key), mask) for key in ours.files)
        row = rows.setdefault(golden, [config["architectures"][0], 0, [], 0.0])
        row[1] += 1
        row[2] += odd
        row[3] = max(row[3], error)
    print(f"{framework}, transformers {transformers.__version__}, numpy {np.__version__}\n")
    print("| golden | class | saved and opened | odd keys | largest difference |")
    print("|---|---|---|---|---|")
    for golden, (name, count, odd, error) in rows.items():
        print(f"| {golden} | {name} | {count} | {', '.join(sorted(set(odd))) or 0} | {error:.1e} |")
    assert all(not odd and error < 1e-4 for _, _, odd, error in rows.values()), "see above"


def inputs(golden: Path) -> dict[str, np.ndarray]:
    """The golden's inputs, as the reference takes them."""
    from safetensors.numpy import load_file

    tensors = load_file(golden / "expected.safetensors")
    return {k[3:]: v.astype(np.int32) for k, v in tensors.items() if k.startswith("in.")}


def has(out, name: str) -> bool:
    return getattr(out, name, None) is not None


def largest(ours: np.ndarray, theirs: np.ndarray, mask: np.ndarray | None) -> float:
    """The largest difference where there are tokens."""
    difference = np.abs(ours - theirs)
    if mask is not None and difference.shape[: mask.ndim] == mask.shape:
        difference = difference[mask.astype(bool)]
    return float(difference.max())


if __name__ == "__main__":
    main()
