"""Families as the reference computes them: `tests/goldens/families`, made by
`scripts/make_family_goldens.py` from the tables of `tests/families`."""

import dataclasses
import functools
import json
import tempfile
from collections.abc import Iterable
from typing import Any

import _families as families
import numpy as np
import pytest
from _paths import GOLDENS
from _weights import weights
from safetensors.numpy import load_file

import flaxmodels as fm
from flaxmodels import registry

FOLDER = GOLDENS / "families"


class Reference:
    """One family: its table, and what the reference said about it."""

    def __init__(self, model_type: str):
        self.table = families.load(model_type)
        self.golden = json.loads((FOLDER / f"{model_type}.json").read_text())

    @functools.cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        return load_file(FOLDER / f"{self.table.model_type}.safetensors")

    def entry(self, name: str) -> dict[str, Any]:
        """config.json and tensors of a class or a variant."""
        return self.golden["classes"].get(name) or self.golden["variants"][name]

    def cls(self, name: str) -> Any:
        """Our class of that name; of a variant, that of the family's language model."""
        return getattr(fm, name if name in self.table.classes else self.table.main)

    def load(self, name: str, **fields: Any) -> tuple[Any, Any]:
        """(model, params) in float32 with the weights of the rule; every tensor has its place."""
        cls, entry = self.cls(name), self.entry(name)
        model, params, info = cls.from_pretrained(
            None,
            config=cls.config_class.from_dict(entry["config"]),
            state_dict=weights(entry["tensors"], self.table.same),
            output_loading_info=True,
            **fields,
        )
        assert not info.missing_keys and not info.unexpected_keys
        return model, params

    def inputs(self, name: str, which: str = "padded") -> dict[str, np.ndarray]:
        """The arguments of a class or a variant."""
        key = "cross" if name == "cross" else which
        return families.arrays_of(families.for_class(name, self.golden["inputs"][key]))

    def expected(self, name: str, which: str = "padded") -> dict[str, np.ndarray]:
        """What the reference put out for them."""
        start = f"{name}.{which}."
        found = {k.removeprefix(start): v for k, v in self.arrays.items() if k.startswith(start)}
        assert found, f"the golden has no outputs of {start}"
        return found

    def check(self, name: str, out: Any, which: str = "padded", *, leave: str = " ") -> None:
        """Each output of the reference is there, and equal where there are tokens: the difference
        over the largest number, or over 1 if that is larger, is below 1e-4.

        Args:
            leave: outputs whose names begin so are not compared.
        """
        mask = self.inputs(name, which).get("attention_mask")
        for key, want in self.expected(name, which).items():
            if key.startswith(leave):
                continue
            have, tokens = self._compared(key, out), mask
            assert have.shape == want.shape, f"{key}: {have.shape}, expected {want.shape}"
            if key.startswith("attentions"):  # [N, T, S] of the last row
                tokens = None if mask is None else np.broadcast_to(mask[-1], want.shape[:2])
            if tokens is None or want.shape[: tokens.ndim] != tokens.shape:
                tokens = np.ones((), bool)
            difference = np.abs(have - want)[tokens.astype(bool)]
            worst = difference.max() / max(1, np.abs(want).max())
            assert worst < 1e-4, f"{name}, {which}: {key} is off by {worst:.1e}"

    def _compared(self, key: str, out: Any) -> np.ndarray:
        """What of an output the golden holds."""
        field, _, index = key.partition(".")
        value = getattr(out, field)
        assert value is not None, f"no {field}"
        array = np.asarray(value[int(index)] if index else value, np.float32)
        if field == "hidden_states":
            return array[:, 0 if self.table.encodes else -1]
        return array[-1] if field == "attentions" else array


load = functools.cache(Reference)


def params(pairs: Iterable[tuple[str, ...]], soak: str = "") -> list[Any]:
    """Parameters of a test, `(family, more ...)` each. A family that the registry does not have yet
    is skipped; there is no other way to be.

    Args:
        soak: which are left out of the default run: those that end so; "in turn", every other.
    """
    found = []
    for i, pair in enumerate(pairs):
        marks = [] if pair[0] in registry.FAMILIES else [pytest.mark.skip("not registered")]
        if (i % 4 in (0, 3)) if soak == "in turn" else pair[-1] == soak:
            marks.append(pytest.mark.soak)
        found.append(pytest.param(*pair, id="-".join(pair), marks=marks))
    return found


OWN_LAYERS = {"bert", "falcon", "gemma3_text", "gpt2", "gpt_neo", "llama", "opt"}
"""Families whose layers, or patterns of layers, stand for those of the others."""


def soak_of_alike(names: Iterable[str]) -> list[Any]:
    """Parameters of a test of each family, which the default run leaves out for those that are
    built of the same layers as another."""
    soak = pytest.mark.soak
    return [pytest.param(name, marks=() if name in OWN_LAYERS else soak) for name in names]


def fields(config: Any) -> dict[str, Any]:
    """The fields of a config, without the keys that it merely keeps, and without the pattern that
    `layer_types` was made by, which 5.23 does not write for Cohere 2."""
    named = {field.name for field in dataclasses.fields(config)}
    return {name: getattr(config, name) for name in named - {"extra", "sliding_window_pattern"}}


def tensors(model: Any, tree: Any) -> dict[str, np.ndarray]:
    """A tree like the params as the tensors of a file: by saving it."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(tree, folder, progress=False)
        return load_file(f"{folder}/model.safetensors")
