"""Draws the models and inputs of `make_goldens.py`, runs them, and writes what came out."""

import json
import platform
import re
import shutil
import struct
import zlib
from pathlib import Path

import _goldens_cases as cases
import numpy as np
from safetensors.numpy import save_file

ROOT = Path(__file__).resolve().parents[3] / "tests" / "goldens"


def rng_for(name):
    return np.random.default_rng(zlib.crc32(name.encode()))


def draw(rng, name, shape):
    noise = rng.standard_normal(shape, dtype=np.float32)
    if re.search(r"(norm|ln_\w+)\W(weight|scale)$", name.lower()):
        return 1 + 0.1 * noise
    return (0.1 if name.endswith("bias") else 0.2) * noise


def make_inputs(rng, class_name, config, length=9, pad=3, side=None):
    """Random tokens, the last row padded: on the right for BERT's encoders, else on the left."""
    lead = {"BertForMultipleChoice": (2, 3), "GPT2DoubleHeadsModel": (2, 2)}.get(class_name, (2,))
    mask = np.ones((*lead, length), np.int32)
    encodes = "Bert" in class_name and class_name != "BertLMHeadModel"
    side = side or ("right" if encodes else "left")
    mask[-1, ..., slice(length - pad, None) if side == "right" else slice(pad)] = 0
    ids = rng.integers(3, config.vocab_size, mask.shape, dtype=np.int32)
    inputs = {"input_ids": np.where(mask, ids, config.pad_token_id), "attention_mask": mask}
    if "Bert" in class_name:
        types = rng.integers(0, config.type_vocab_size, mask.shape, dtype=np.int32)
        inputs["token_type_ids"] = np.sort(types, -1)
    if class_name == "GPT2DoubleHeadsModel":
        inputs["mc_token_ids"] = rng.integers(pad, length, lead, dtype=np.int32)
    return inputs


def second_inputs(rng, class_name, config, inputs):
    """Returns the inputs of a further call of this class; None where the first shows all."""
    if class_name == "BertModel":
        return {"input_ids": inputs["input_ids"]}  # the defaults of everything else
    if re.search("LMHeadModel|CausalLM", class_name):
        positions = np.maximum(inputs["attention_mask"].cumsum(-1, dtype=np.int32) - 1, 0)
        return inputs | {"position_ids": positions}  # as generate() makes them
    if re.search("(GPT2|Llama)ForSequenceClassification", class_name):
        return make_inputs(rng, class_name, config, side="right")
    return None


def save_expected(folder, arrays, class_name, **versions):
    """Metadata in sorted order: safetensors writes it in that of a hash map, another every run."""
    path = folder / "expected.safetensors"
    metadata = {"class": class_name, "python": platform.python_version(), **versions}
    save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, path, metadata)
    raw = path.read_bytes()
    size = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode().ljust(size)
    path.write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + size :])


def fresh(name):
    folder = ROOT / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def torch_model(class_name, config, seed):
    import torch
    import transformers

    cls = getattr(transformers, class_name)
    family = next(name for name in cases.FAMILIES if class_name.lower().startswith(name))
    options = cases.FAMILIES[family] | config | {"attn_implementation": "eager"}
    model = cls(cls.config_class(**options)).eval()
    rng = rng_for(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.from_numpy(draw(rng, name, tuple(parameter.shape))))
    return model, rng


def call(model, inputs, full=False):
    import torch

    arguments = {k: torch.from_numpy(v).long() for k, v in inputs.items()}
    outputs = model(**arguments, output_hidden_states=full, output_attentions=full, use_cache=False)
    return {k: v for k, v in outputs.items() if v is not None and len(v)}


def named(prefix, tensors):
    arrays = {k: v.detach().numpy() if hasattr(v, "detach") else v for k, v in tensors.items()}
    return {f"{prefix}.{k}": v for k, v in arrays.items()}


def torch_versions():
    import torch
    import transformers

    return {"torch": torch.__version__, "transformers": transformers.__version__}
