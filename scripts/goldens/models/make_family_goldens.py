"""Makes the goldens under tests/goldens/families with PyTorch Transformers.

Run by hand; rewrites what it is asked for, the same every time:

    python scripts/goldens/models/make_family_goldens.py [FAMILY ...]

Last run with Python 3.11.7, torch 2.13.0 (CPU), transformers 5.23.0, numpy 2.4.6; each file names
the versions that made it. What is asked is in `tests/families/<model_type>.py`, and the weights are
those of `_weights.py`: a golden holds none. `<model_type>.json` has

    versions
    inputs      name -> {argument: values}; "padded", "whole" (the tokens of the padded rows alone,
                so that equal outputs prove that padding changes nothing)
    classes     class -> {"config": config.json, where it is not the first class's;
                "tensors": {name in the file: shape}, all that save_pretrained wrote}
    variants    name -> the same
    gradients   {name in the file: [norm, product with `weight("projection.<name>")`]} of
                sum(logits * cot) over the tokens of "padded", cot = `uniform("cotangent", shape)`
    generated   20 greedy tokens after "padded" ("whole" where the family pads on the right), of a
                family that generates

and `<model_type>.safetensors` has the outputs in float32, `<class or variant>.<inputs>.<output>`.
Of hidden states there is one place of each row, `PLACE`; of attentions the last row of the first
and the last layer.
"""

import copy
import json
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

import _families as families
import numpy as np
import torch
import transformers
from _weights import uniform, weight, weights
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

torch.set_num_threads(1)
ROOT = Path(__file__).resolve().parents[3] / "tests" / "goldens" / "families"
NEW_TOKENS, MORE_TOKENS = 20, 6
OUTPUTS = (
    "last_hidden_state pooler_output logits start_logits end_logits prediction_logits "
    "seq_relationship_logits sop_logits mc_logits"
).split()


def main() -> None:
    ROOT.mkdir(exist_ok=True)
    for name in sys.argv[1:] or families.names():
        golden, arrays = make(families.load(name))
        (ROOT / f"{name}.json").write_text(families.text_of(golden))
        save_file(arrays, ROOT / f"{name}.safetensors")
        size = (ROOT / f"{name}.safetensors").stat().st_size + len(families.text_of(golden))
        print(f"{name}: {len(golden['classes'])} classes, {size / 1e3:.0f} KB", flush=True)


def make(family: families.Family) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Asks everything about one family: what goes into its JSON, and the outputs."""
    inputs = families.make_inputs(family)
    golden: dict[str, Any] = {"versions": versions(), "inputs": inputs, "classes": {}}
    golden["variants"] = {}
    arrays = {}
    for name in family.classes:
        model, entry = build(family, name, family.config_of(name))
        golden["classes"][name] = entry
        wanted = family.inputs_of(name)
        if "cross" in wanted:
            inputs["cross"] = inputs["alone"] | cross_inputs(model.config.hidden_size)
        wanted = (*wanted, "whole") if name == family.bare else wanted
        given = {key: families.for_class(name, inputs[key]) for key in wanted}
        arrays |= outputs(name, model, given, family)
        if name == family.bare:
            found = model.state_dict().items()
            arrays |= {f"computed.{k}": numpy(v) for k, v in found if k.endswith(family.computed)}
        if name == family.main:
            golden["gradients"] = gradients(model, given["padded"], family)
            if family.generates:
                golden |= said(model, inputs, family)
    for name, changes in family.variants.items():
        config = family.config_of(family.main) | changes
        model, entry = build(family, family.main, config, family.attention(name))
        golden["variants"][name] = entry
        given = inputs["padded"]
        if name == "cross":
            given = inputs["cross"] = given | cross_inputs(model.config.hidden_size)
        arrays |= outputs(name, model, {"padded": given}, family, states=False)
        if name == family.generating:
            golden |= said(model, inputs, family)
    return golden, arrays


def versions() -> dict[str, str]:
    found = {module.__name__: module.__version__ for module in (torch, transformers, np)}
    return {"python": platform.python_version(), **found}


# --- inputs ---


def cross_inputs(width: int) -> dict[str, Any]:
    """Makes what an encoder put out, for layers that read one: its last state is padding. States
    are given by the rule that draws them, for they are numbers by the hundred."""
    mask = [[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]]
    return {"encoder_hidden_states": {"uniform": [2, 5, width]}, "encoder_attention_mask": mask}


# --- models ---


def build(
    family: families.Family, name: str, config: dict[str, Any], attention: str = "eager"
) -> tuple[Any, dict[str, Any]]:
    """Makes a model with the weights of the rule, its config.json and the tensors of its file."""
    cls = getattr(transformers, name)
    values = {key: value for key, value in config.items() if key != "architectures"}
    with tempfile.TemporaryDirectory() as folder:
        cls(cls.config_class(**values)).save_pretrained(folder)
        with safe_open(f"{folder}/model.safetensors", "np") as file:
            found = {key: file.get_slice(key).get_shape() for key in file.keys()}
            kept = {key: file.get_tensor(key) for key in found if key.endswith(family.computed)}
        shapes = dict(sorted(family.hub(found).items()))
        drawn = weights(shapes, family.same) | kept
        save_file(drawn, f"{folder}/model.safetensors", {"format": "pt"})
        model, info = cls.from_pretrained(
            folder, output_loading_info=True, attn_implementation=attention, dtype=torch.float32
        )
        assert not any(info[k] for k in ("missing_keys", "unexpected_keys", "mismatched_keys"))
        written = json.loads(Path(folder, "config.json").read_text())
    return model.eval(), {"config": written, "tensors": shapes}


def outputs(
    name: str, model: Any, inputs: dict[str, Any], family: families.Family, states: bool = True
) -> dict[str, np.ndarray]:
    """Runs the model on each of its inputs: {name in the golden: output}."""
    found = {}
    states = states and name == family.bare
    for key, given in inputs.items():
        with torch.no_grad():
            out = model(**tensors(given), output_hidden_states=states, output_attentions=states)
        found |= {f"{name}.{key}.{n}": numpy(out[n]) for n in OUTPUTS if out.get(n) is not None}
        if states:
            found |= {f"{name}.{key}.{n}": array for n, array in inner(out, family).items()}
    if states:  # so that who equals both knows that padding changes nothing
        padded, whole = (
            found.get(f"{name}.{key}.last_hidden_state", found.get(f"{name}.{key}.logits"))
            for key in inputs
        )
        mask = "decoder_attention_mask" if family.decodes else "attention_mask"
        tokens = np.asarray(inputs["padded"][mask][1], bool)
        assert np.abs(padded[1, tokens] - whole[0]).max() < 1e-4, "padding changes outputs"
    return found


def inner(out: Any, family: families.Family) -> dict[str, np.ndarray]:
    """Takes what stands between layers: one place of hidden states, the last row of attentions."""
    found = {}
    if family.decodes:
        found["encoder_last_hidden_state"] = numpy(out.encoder_last_hidden_state)
    for half in ("encoder_", "decoder_") if family.decodes else ("",):
        place = 0 if family.encodes or family.decodes else -1
        for i, state in enumerate(out[f"{half}hidden_states"]):
            found[f"{half}hidden_states.{i}"] = numpy(state[:, place])
    for kind in ("encoder_", "decoder_", "cross_") if family.decodes else ("",):
        weights = out[f"{kind}attentions"]
        for i in {0, len(weights) - 1}:
            found[f"{kind}attentions.{i}"] = numpy(weights[i][-1])
    return found


def tensors(inputs: dict[str, Any]) -> dict[str, torch.Tensor]:
    arrays = families.arrays_of(inputs)
    return {
        key: torch.tensor(array, dtype=torch.int64 if array.dtype.kind == "i" else torch.float32)
        for key, array in arrays.items()
    }


def numpy(tensor: torch.Tensor) -> np.ndarray:
    array = tensor.detach().numpy()
    assert array.dtype == np.float32 and np.isfinite(array).all()
    return np.ascontiguousarray(array)


def gradients(
    model: Any, inputs: dict[str, Any], family: families.Family
) -> dict[str, list[float]]:
    """Computes the norm of the gradient of every tensor of the file, and a product with it."""
    model.zero_grad()
    given = tensors(inputs)
    logits = model(**given).logits
    cotangent = torch.tensor(uniform("cotangent", logits.shape))
    mask = given["decoder_attention_mask" if family.decodes else "attention_mask"]
    (logits * cotangent * mask[..., None]).sum().backward()
    found = {}
    for name, gradient in in_file(model, family).items():
        gradient = gradient.astype(np.float64)
        along = weight(f"projection.{name}", gradient.shape)
        found[name] = [float(np.linalg.norm(gradient)), float((gradient * along).sum())]
        assert found[name][0] > 0, f"{name} does not matter"
    return {name: [float(f"{x:.7g}") for x in pair] for name, pair in found.items()}


def in_file(model: Any, family: families.Family) -> dict[str, np.ndarray]:
    """Gives the gradients as the tensors of a file, which joins and names them otherwise: those of
    a model that has them as its parameters. What is no weight, and weights that are of no use to
    the logits, are left out."""
    other = copy.deepcopy(model)
    left = {".".join(name.split(".")[-2:]) for name, _ in model.named_buffers()} | {
        *family.computed
    }
    with torch.no_grad():
        for (name, mine), its in zip(model.named_parameters(), other.parameters(), strict=True):
            if mine.grad is None:
                left.add(name)
            else:
                its.copy_(mine.grad)
    with tempfile.TemporaryDirectory() as folder:
        other.save_pretrained(folder)
        tensors = family.hub(load_file(f"{folder}/model.safetensors"))
    return {key: array for key, array in tensors.items() if not key.endswith(tuple(left))}


def said(model: Any, inputs: dict[str, Any], family: families.Family) -> dict[str, list[Any]]:
    """Returns what a model generates, under the names of the golden."""
    prompt = inputs["whole" if family.encodes else "padded"]
    found: dict[str, list[Any]] = {"generated": generate(model, prompt, family)}
    starts = family.decodes and model.generation_config.decoder_start_token_id is not None
    return found | ({"continued": continued(model, prompt)} if starts else {})


def generate(model: Any, inputs: dict[str, Any], family: families.Family) -> list[list[int]]:
    """Generates greedy tokens, none a close call; of a decoder from its first token on."""
    given = {k: v for k, v in tensors(inputs).items() if k in ("input_ids", "attention_mask")}
    given.setdefault("attention_mask", torch.ones_like(given["input_ids"]))
    if family.first_position:  # 5.23 counts from 0, whatever a forward pass of its own does
        given["position_ids"] = given["attention_mask"].cumsum(-1) - 1
        given["position_ids"] += family.first_position
    first = 0 if family.decodes else given["input_ids"].shape[1]
    return greedy(model, given, NEW_TOKENS)[:, first:].tolist()


def greedy(model: Any, given: dict[str, torch.Tensor], steps: int) -> torch.Tensor:
    """Generates greedy tokens; fails where one is a close call."""
    out = model.generate(
        **given,
        max_new_tokens=steps,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
        return_dict_in_generate=True,
        output_logits=True,
    )
    best = torch.stack(out.logits).topk(2, -1).values
    margin = float((best[..., 0] - best[..., 1]).min())
    assert margin > 1e-4, f"two tokens are {margin:.1e} apart"
    return out.sequences


def continued(model: Any, inputs: dict[str, Any]) -> list[dict[str, Any]]:
    """Goes on with what a decoder has said: two rows that do not begin with its start token, and
    two that do, the second of which is padded on the left."""
    given = {k: v for k, v in tensors(inputs).items() if k in ("input_ids", "attention_mask")}
    start = model.generation_config.decoder_start_token_id
    said = tensors(inputs)["decoder_input_ids"][:, :4]
    begun = torch.cat((torch.full_like(said[:, :1], start), said[:, 1:]), dim=1)
    begun[1] = torch.cat((torch.zeros_like(said[1, :2]), begun[1, :2]))
    mask = torch.tensor([[1, 1, 1, 1], [0, 0, 1, 1]])
    found = []
    for more in (
        {"decoder_input_ids": said},
        {"decoder_input_ids": begun, "decoder_attention_mask": mask},
    ):
        sequences = greedy(model, given | more, MORE_TOKENS)
        told = {name: rows.tolist() for name, rows in more.items()}
        found.append({"inputs": told, "sequences": sequences.tolist()})
    return found


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    main()
