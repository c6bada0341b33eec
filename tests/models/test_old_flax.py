"""Folders of the Flax classes of Transformers 4 are read unchanged: `flax_model.msgpack` with the
weights of the rule, and the config.json that 4.53.3 wrote, put out what they did there."""

import json
import warnings

import jax
import numpy as np
import pytest
import reference
from _families import arrays_of, for_class
from _paths import GOLDENS
from _weights import weights
from flax.serialization import msgpack_serialize
from flax.traverse_util import unflatten_dict
from safetensors.numpy import load_file

import flaxmodels as fm
from flaxmodels import params as fp

FOLDER = GOLDENS / "flax"
NEW = {"big_bird": {"bert/pooler/kernel", "bert/pooler/bias"}}
"""Leaves that heads of a family have today, as PyTorch's have, and do not read."""
FLAX = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}


RENAMED = ("bloom", "encoder-decoder", "gemma", "gpt2", "llama", "longt5", "mistral", "mt5", "t5")
"""Families that have leaves under other names than in old Flax, or in other shapes. Leaves of the
others are those of the file, so their numbers are those of `test_reference.py`."""
EVERY_CLASS = [(family, name) for family, golden in FLAX.items() for name in golden["classes"]]
_first_of_a_head = reference.one_of_each_head(EVERY_CLASS)


def _by_default(pair):
    """The bare model of each family, the language models of those that stand for a kind of layer,
    and each head once."""
    language = pair[1].endswith(("ForCausalLM", "ForMaskedLM", "ForConditionalGeneration"))
    bare = pair[1].endswith("Model")
    return bare or (reference.stands(pair) and language) or _first_of_a_head(pair)


@pytest.mark.parametrize(("family", "name"), reference.params(EVERY_CLASS, by_default=_by_default))
def test_a_folder_of_old_flax_is_read_unchanged(family, name, tmp_path, thorough):
    """Every leaf has its place; of bare models the numbers are those of old Flax, or the leaves
    those of the file. With `--all` numbers of all, which are tried by their PyTorch checkpoints
    too."""
    golden = FLAX[family]
    entry = golden["classes"][name]
    bare = name.endswith("Model")
    computes = thorough or (bare and family in RENAMED)
    tensors = weights(entry["tensors"])
    (tmp_path / "flax_model.msgpack").write_bytes(
        msgpack_serialize(unflatten_dict(tensors, sep="."))
    )
    (tmp_path / "config.json").write_text(json.dumps(entry["config"]))
    cls = getattr(fm, f"Flax{name}")
    with warnings.catch_warnings():
        if family in NEW:
            warnings.filterwarnings("ignore", ".* not initialized from pretrained model")
        model, params, info = cls.from_pretrained(
            tmp_path, scan_layers=computes and len(name) % 2 == 0, output_loading_info=True
        )
    assert {*info.missing_keys} <= NEW.get(family, set()) and not info.unexpected_keys
    if not computes:
        leaves = fp.flatten(params)
        for key, array in tensors.items() if bare else ():
            np.testing.assert_array_equal(leaves[key.replace(".", "/")], array, key)
        return
    inputs = arrays_of(for_class(name, golden["inputs"]))
    out = jax.jit(lambda params: model.apply({"params": params}, **inputs))(params)
    mask = inputs.get("decoder_attention_mask", inputs["attention_mask"]).astype(bool)
    expected = load_file(FOLDER / f"{family}.safetensors")
    for key in (key for key in expected if key.startswith(f"{name}.")):
        have, want = np.asarray(getattr(out, key.removeprefix(f"{name}."))), expected[key]
        where = mask if want.shape[: mask.ndim] == mask.shape else np.ones((), bool)
        assert np.abs(have - want)[where].max() < 1e-4 * max(1, np.abs(want).max()), key
