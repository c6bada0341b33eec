"""Goldens: checkpoints and outputs that the real libraries wrote (`scripts/goldens/files`)."""

import functools
from typing import Any

import jax
import numpy as np
from _paths import GOLDENS
from safetensors import safe_open
from safetensors.numpy import load_file

import flaxmodels as fm
from flaxmodels import params as fp
from flaxmodels.params.tree.leaf_places import places
from flaxmodels.params.tree.naming import TORCH


def names(prefix: str = "") -> list[str]:
    """All goldens of PyTorch whose name starts with `prefix`."""
    found = (path.parent.name for path in GOLDENS.glob("*/expected.safetensors"))
    return sorted(name for name in found if name.startswith(prefix or ("bert", "gpt2", "llama")))


class Golden:
    """One golden: what goes in, and what must come out."""

    def __init__(self, name: str):
        self.path = GOLDENS / name / "expected.safetensors"
        self.checkpoint = GOLDENS / name / "checkpoint"
        self.arrays = load_file(self.path)
        with safe_open(self.path, "np") as file:
            self.class_name = file.metadata()["class"].removeprefix("Flax")

    def load(self, **fields: Any) -> tuple[Any, Any]:
        """(model, params) in float32, with fields of the model changed."""
        return getattr(fm, self.class_name).from_pretrained(self.checkpoint, **fields)

    def under(self, prefix: str) -> dict[str, np.ndarray]:
        """The arrays named `prefix.*`, by the rest of their names."""
        dotted = f"{prefix}."
        return {k.removeprefix(dotted): v for k, v in self.arrays.items() if k.startswith(dotted)}

    def calls(self) -> list[tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]:
        """(arguments, outputs) of every call that was recorded."""
        numbered = (("in", "out"), ("in2", "out2"), ("in3", "out3"))
        return [(self.under(i), self.under(o)) for i, o in numbered if self.under(i)]


load = functools.cache(Golden)


def flat(output: Any) -> dict[str, np.ndarray]:
    """A model's output under the names of a golden: `logits`, `hidden_states.0`, ..."""
    arrays = {}
    for name, value in vars(output).items():
        if isinstance(value, tuple):
            arrays |= {f"{name}.{i}": np.asarray(item) for i, item in enumerate(value)}
        elif isinstance(value, jax.Array):
            arrays[name] = np.asarray(value)
    return arrays


def assert_close(
    got: dict[str, np.ndarray],
    expected: dict[str, np.ndarray],
    mask: np.ndarray | None,
    tolerance: float,
) -> None:
    """Every expected array is there, and equal where `mask` [..., T] has a token."""
    assert expected.keys() <= got.keys()
    for name, want in expected.items():
        assert got[name].shape == want.shape, name
        where = np.ones(want.shape, bool)
        if mask is not None and not name.endswith("mc_logits"):
            where = np.broadcast_to(_over(mask, want, "attentions" in name), want.shape)
        difference = np.abs(got[name].astype(np.float32) - want.astype(np.float32))[where]
        assert difference.max(initial=0) < tolerance, f"{name}: off by {difference.max()}"


def _over(mask: np.ndarray, array: np.ndarray, heads: bool) -> np.ndarray:
    """The mask of tokens, with axes for the others of `array`; all True where it has no tokens."""
    mask = mask.astype(bool)
    if array.ndim > mask.ndim + 2 or array.shape[0] != mask.shape[0]:  # choices in the batch
        mask = mask.reshape(-1, mask.shape[-1])
    if heads:
        return mask[:, None, :, None]
    if array.shape[: mask.ndim] != mask.shape:
        return np.True_
    return mask.reshape(mask.shape + (1,) * (array.ndim - mask.ndim))


def torch_names(model: Any, tree: Any) -> dict[str, np.ndarray]:
    """A tree like the params, under PyTorch's names and in its layout."""
    arrays, template = {}, fp.flatten(model.abstract_params())
    found = places(template, model.naming, TORCH)
    for path, leaf in fp.flatten(tree).items():
        for place in found[path]:
            piece = np.asarray(leaf)[place.index]
            arrays[place.name] = piece.transpose(np.argsort(place.permutation))
    return arrays
