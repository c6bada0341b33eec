"""Does what we save open in the reference libraries, and theirs here, with every key and the same
outputs?

Run by hand, in three environments, on one folder:

    cd scripts/goldens/models
    python check_reference.py theirs DIR [FAMILY...]  # torch 2.13.0, Transformers 5.23.0
    python check_reference.py ours DIR [FAMILY...]    # this library: saves those again
    python check_reference.py torch DIR      # as the first: opens ours
    python check_reference.py flax DIR       # jax 0.4.13, flax 0.7.0, Transformers 4.53.3

`theirs` saves every class and variant of `tests/families`, with weights of `_weights.py`.
`ours` opens them, if the registry has the family, and every golden, and the folders of old Flax
that `tests/goldens/flax` describes: all keys required, looped and stacked. What it saves of them
stands in DIR/ours: single file and shards, safetensors and msgpack. The last two open that, and
write their tables into docs/reference.md. With families named, to both, there are these alone and
no goldens, and the tables keep their other rows.
"""

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import _families as families
import numpy as np
from _weights import weights

ROOT = Path(__file__).resolve().parents[3]
GOLDENS = ROOT / "tests" / "goldens"
PAGE = ROOT / "docs" / "reference.md"
TORCH = {"single": {}, "sharded": {"max_shard_size": "20KB"}}
FLAX = {
    "msgpack": {"safe_serialization": False},
    "msgpack-sharded": {"safe_serialization": False, "max_shard_size": "20KB"},
}
OUTPUTS = (
    "logits start_logits end_logits prediction_logits seq_relationship_logits sop_logits mc_logits "
    "last_hidden_state pooler_output"
).split()


def main() -> None:
    mode, folder, named = sys.argv[1], Path(sys.argv[2]), sys.argv[3:]
    if mode in ("torch", "flax"):
        {"torch": check_torch, "flax": check_flax}[mode](folder)
    else:
        {"theirs": save_theirs, "ours": save_ours}[mode](folder, named)


# --- what is opened here ---


def save_theirs(folder: Path, named: list[str]) -> None:
    """Saves every class and variant with PyTorch Transformers, inputs and outputs beside it."""
    import torch
    import transformers
    from make_family_goldens import build, cross_inputs, tensors

    transformers.logging.set_verbosity_error()
    for family in map(families.load, named or families.names()):
        inputs = families.make_inputs(family)
        cases = [(name, name, {}) for name in family.classes]
        cases += [(family.main, name, changes) for name, changes in family.variants.items()]
        for cls, case, changes in cases:
            config = family.config_of(cls) | changes
            model, _ = build(family, cls, config, family.attention(case))
            given = families.for_class(cls, inputs[family.inputs_of(cls)[0]])
            if case == "cross":
                given = given | cross_inputs(model.config.hidden_size)
            target = folder / "theirs" / f"{family.model_type}.{case}"
            model.save_pretrained(target)
            with torch.no_grad():
                out = model(**tensors(given))
            found = {name: out[name].numpy() for name in OUTPUTS if out.get(name) is not None}
            write_case(target, family.model_type, cls, families.arrays_of(given), found)
        print(family.model_type, flush=True)


def write_case(target: Path, row: str, cls: str, inputs: dict, outputs: dict) -> None:
    """Writes beside a checkpoint what goes into the model and what came out."""
    (target / "case.json").write_text(json.dumps({"row": row, "class": cls}))
    np.savez(target / "inputs.npz", allow_pickle=False, **inputs)
    np.savez(target / "outputs.npz", allow_pickle=False, **outputs)


def checkpoints(
    folder: Path, named: list[str]
) -> Iterator[tuple[Path, str, dict, dict | None, dict]]:
    """(folder of a checkpoint, row, inputs, outputs of the reference, ways of saving it)."""
    from flaxmodels.registry import FAMILIES

    for golden in () if named else sorted(GOLDENS.glob("*/checkpoint")):
        if not golden.parent.name.startswith("pruned-"):  # Transformers 5 can no longer prune
            name = golden.parent.name  # old Flax cannot express what the others have
            ways = TORCH | (FLAX if name.startswith("flax-") else {})
            yield golden, name, golden_inputs(golden.parent), None, ways
    for target in sorted((folder / "theirs").iterdir()):
        case = json.loads((target / "case.json").read_text())
        if case["row"] in (named or FAMILIES):
            outputs = dict(np.load(target / "outputs.npz"))
            yield target, case["row"], dict(np.load(target / "inputs.npz")), outputs, TORCH
    yield from old_flax(folder, named)


def golden_inputs(golden: Path) -> dict[str, np.ndarray]:
    """The golden's inputs, as the reference takes them."""
    from safetensors.numpy import load_file

    tensors = load_file(golden / "expected.safetensors")
    return {k[3:]: v.astype(np.int32) for k, v in tensors.items() if k.startswith("in.")}


def old_flax(folder: Path, named: list[str]) -> Iterator[tuple[Path, str, dict, dict, dict]]:
    """Makes the folders that `tests/goldens/flax` describes."""
    from flax.serialization import msgpack_serialize
    from flax.traverse_util import unflatten_dict
    from safetensors.numpy import load_file

    from flaxmodels.registry import FAMILIES

    for path in sorted((GOLDENS / "flax").glob("*.json")):
        golden, expected = json.loads(path.read_text()), load_file(path.with_suffix(".safetensors"))
        for name, entry in golden["classes"].items() if path.stem in (named or FAMILIES) else ():
            target = folder / "old" / f"{path.stem}.{name}"
            target.mkdir(parents=True, exist_ok=True)
            params = unflatten_dict(weights(entry["tensors"]), sep=".")
            content = msgpack_serialize(params)
            (target / "flax_model.msgpack").write_bytes(content)
            (target / "config.json").write_text(json.dumps(entry["config"]))
            inputs = families.arrays_of(families.for_class(name, golden["inputs"]))
            start = f"{name}."
            outputs = {k.removeprefix(start): v for k, v in expected.items() if k.startswith(start)}
            yield target, path.stem, inputs, outputs, FLAX


def save_ours(folder: Path, named: list[str]) -> None:
    """Opens every checkpoint, compares outputs where the reference's are known, saves it again."""
    import jax

    from flaxmodels.auto import architecture

    jax.config.update("jax_disable_most_optimizations", True)  # each program runs once
    worst = 0.0
    for source, row, inputs, expected, ways in checkpoints(folder, named):
        cls = architecture(str(source))
        name = json.loads((source / "config.json").read_text())["architectures"][0]
        label = source.parent.name if source.name == "checkpoint" else source.name
        found = {}
        for scan in (False, True):
            model, params, info = cls.from_pretrained(
                source, scan_layers=scan, output_loading_info=True
            )
            missing, left = info.missing_keys, info.unexpected_keys
            if ways is FLAX:  # whose heads have no pooler where they do not read it
                may_lack = re.compile("|".join(model.naming.optional) or "$^")
                missing = [path for path in missing if not may_lack.search(path)]
            assert expected is None or not (missing or left), f"{source}: {missing=}, {left=}"
            found = found or run_ours(model, params, inputs)
            for way, options in ways.items():
                target = folder / "ours" / f"{label}.{way}.{'scan' if scan else 'loop'}"
                model.save_pretrained(params, target, **options)
                write_case(target, row, name, inputs, found)
        for key, want in (expected or {}).items():
            error = largest(found[key], want, mask_of(inputs))
            worst = max(worst, error)
            assert error < 1e-4, f"{source}: {key} is off by {error:.1e}"
    print(f"opened here: the largest difference is {worst:.1e}")


def run_ours(model: Any, params: Any, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    import jax

    out = jax.jit(model.apply)({"params": params}, **inputs)
    there = {key: getattr(out, key, None) for key in OUTPUTS}
    return {key: np.asarray(array) for key, array in there.items() if array is not None}


# --- what is opened there ---


def check_torch(folder: Path) -> None:
    """Loads the safetensors ones with PyTorch Transformers and compares."""
    import torch
    import transformers

    def run(target: Path, inputs: dict, name: str):
        cls = getattr(transformers, name)
        row, case = target.name.split(".")[:2]  # of a golden, way of saving it
        table = families.load(row) if row in families.names() else None
        model, info = cls.from_pretrained(
            target,
            output_loading_info=True,
            attn_implementation="eager" if table is None else table.attention(case),
        )
        model = model.float().eval()
        with torch.no_grad():
            out = model(**{key: torch.tensor(value) for key, value in inputs.items()})
        odd = [key for kind in ("missing_keys", "unexpected_keys") for key in info[kind]]
        return odd + list(info["mismatched_keys"]), lambda key: getattr(out, key).numpy()

    versions = f"torch {torch.__version__}, transformers {transformers.__version__}"
    report(folder, TORCH, run, "PyTorch, safetensors", versions)


def check_flax(folder: Path) -> None:
    """Loads the msgpack ones with the old Flax classes and compares."""
    import jax
    import transformers

    def run(target: Path, inputs: dict, name: str):
        model = getattr(transformers, f"Flax{name.removeprefix('Flax')}").from_pretrained(target)
        out = model(**inputs)
        return [], lambda key: np.asarray(getattr(out, key))

    versions = f"jax {jax.__version__}, transformers {transformers.__version__}"
    report(folder, FLAX, run, "Old Flax, msgpack", versions)


Run = Callable[[Path, dict, str], tuple[list[Any], Callable[[str], np.ndarray]]]


def report(folder: Path, ways: dict, run: Run, title: str, versions: str) -> None:
    """Writes a row per golden, and per class of a family: how many sets of files were tried, odd
    keys, and the largest difference where there are tokens."""
    rows: dict[tuple[str, str], list] = {}
    for target in sorted((folder / "ours").iterdir()):
        if target.name.rsplit(".", 2)[1] not in ways:
            continue
        case = json.loads((target / "case.json").read_text())
        inputs, ours = dict(np.load(target / "inputs.npz")), np.load(target / "outputs.npz")
        odd, output = run(target, inputs, case["class"])
        error = max(largest(ours[key], output(key), mask_of(inputs)) for key in ours.files)
        row = rows.setdefault((case["row"], case["class"]), [0, [], 0.0])
        row[0], row[1], row[2] = row[0] + 1, row[1] + odd, max(row[2], error)
    table = {}
    for (name, cls), (count, odd, error) in rows.items():
        keys = ", ".join(sorted(set(map(str, odd)))) or 0
        table[name, cls] = f"| {name} | {cls} | {count} | {keys} | {error:.1e} |"
    print("\n".join(table.values()))
    assert all(not odd and error < 1e-4 for _, odd, error in rows.values()), "see above"
    section = re.compile(rf"(?s)(## {title}\n\n)(.*?)(?=\n## |\Z)")
    page = PAGE.read_text(encoding="utf-8")
    before = section.search(page)
    assert before, f"{PAGE} has no section {title!r}"
    tried = {name for name, _ in rows}
    for line in before[2].splitlines()[4:]:
        name, cls = (cell.strip() for cell in line.split("|")[1:3])
        if name not in tried:
            table[name, cls] = line
    lines = [f"{versions}, numpy {np.__version__}", ""]
    lines += ["| golden or family | class | saved and opened | odd keys | largest difference |"]
    lines += ["|---|---|---|---|---|", *(table[key] for key in sorted(table))]
    PAGE.write_text(section.sub(lambda m: m[1] + "\n".join(lines) + "\n", page), encoding="utf-8")


def mask_of(inputs: dict[str, np.ndarray]) -> np.ndarray | None:
    """Returns the mask of the tokens that an output is of."""
    return inputs.get("decoder_attention_mask", inputs.get("attention_mask"))


def largest(ours: np.ndarray, theirs: np.ndarray, mask: np.ndarray | None) -> float:
    """The largest difference where there are tokens, over the largest number or over 1."""
    difference = np.abs(ours - theirs)
    if mask is not None and difference.shape[: mask.ndim] == mask.shape:
        difference = difference[mask.astype(bool)]
    return float(difference.max() / max(1, np.abs(theirs).max()))


if __name__ == "__main__":
    main()
