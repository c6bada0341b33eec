"""Families as the reference computes them: `tests/goldens/families`, made by
`scripts/goldens/models/make_family_goldens.py` from the tables of `tests/families`."""

import dataclasses
import functools
import json
import tempfile
from collections.abc import Callable, Iterable
from typing import Any

import _families as families
import numpy as np
import pytest
from _paths import GOLDENS
from _weights import weights
from safetensors.numpy import load_file

import flaxmodels as fm

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

    @functools.cache  # noqa: B019  an instance lives as long as its process
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

    def given(self, name: str) -> tuple[str, ...]:
        """The inputs that there are outputs of, beside "whole"."""
        return self.table.inputs_of(name)

    def expected(self, name: str, which: str = "padded") -> dict[str, np.ndarray]:
        """What the reference put out for them."""
        start = f"{name}.{which}."
        found = {k.removeprefix(start): v for k, v in self.arrays.items() if k.startswith(start)}
        assert found, f"the golden has no outputs of {start}"
        return found

    def check(
        self, name: str, out: Any, which: str = "padded", *, leave: str | tuple[str, ...] = " "
    ) -> None:
        """Each output of the reference is there, and equal where there are tokens: the difference
        over the largest number, or over 1 if that is larger, is below 1e-4.

        Args:
            leave: outputs whose names begin so are not compared.
        """
        inputs = self.inputs(name, which)
        for key, want in self.expected(name, which).items():
            if key.startswith(leave):
                continue
            have, tokens = self._compared(key, out), self._mask(key, inputs)
            assert have.shape == want.shape, f"{key}: {have.shape}, expected {want.shape}"
            if "attentions" in key:  # [N, T, S] of the last row; all of it where T is cut up
                whole = tokens is None or want.ndim > 3
                tokens = None if whole else np.broadcast_to(tokens[-1], want.shape[:2])
            if tokens is None or want.shape[: tokens.ndim] != tokens.shape:
                tokens = np.ones((), bool)
            difference = np.abs(have - want)[tokens.astype(bool)]
            worst = difference.max() / max(1, np.abs(want).max())
            assert worst < 1e-4, f"{name}, {which}: {key} is off by {worst:.1e}"

    def _mask(self, key: str, inputs: dict[str, np.ndarray]) -> np.ndarray | None:
        """Where an output is of tokens."""
        half = "" if key.startswith("encoder_") else "decoder_"
        return inputs.get(f"{half}attention_mask", inputs.get("attention_mask"))

    def _compared(self, key: str, out: Any) -> np.ndarray:
        """What of an output the golden holds."""
        field, _, index = key.partition(".")
        value = getattr(out, field)
        assert value is not None, f"no {field}"
        array = np.asarray(value[int(index)] if index else value, np.float32)
        if index and field.endswith("hidden_states"):
            return array[:, 0 if self.table.encodes or self.table.decodes else -1]
        return array[-1] if field.endswith("attentions") else array


load = functools.cache(Reference)


def params(
    pairs: Iterable[tuple[str, ...]],
    by_default: Callable[[tuple[str, ...]], bool] = lambda pair: True,
) -> list[Any]:
    """Parameters of a test, `(family, more ...)` each.

    Args:
        by_default: whether the default run has a pair; the others are marked `soak`. What compiles
            or differentiates takes `stands` or `in_turn`, so that a family costs little.
    """
    found = []
    for pair in pairs:
        marks = [] if by_default(pair) else [pytest.mark.soak]
        found.append(pytest.param(*pair, id="-".join(pair), marks=marks))
    return found


def stands(pair: tuple[str, ...]) -> bool:
    """Whether the family of a pair stands for a kind of layer."""
    return bool(families.load(pair[0]).stands_for)


def is_class(pair: tuple[str, ...]) -> bool:
    """Whether a pair (family, class or variant) is of a class."""
    return pair[1] in families.load(pair[0]).classes


def variant_of_layers(pair: tuple[str, ...]) -> bool:
    """Whether a pair (family, variant) is of a family that stands for a kind of layer, and about
    its layers: what is tied is a matter of names, and RoBERTa, which stands for its positions, has
    the layers of BERT."""
    return stands(pair) and pair[1] != "untied" and pair[0] != "roberta"


def in_turn(
    pairs: Iterable[tuple[str, ...]], choices: Iterable[str], start: int
) -> Callable[[tuple[str, ...]], bool]:
    """Chooses of pairs (family, choice) one of each family that stands for a kind of layer: the
    choices in turn, of the first family the one at `start`."""
    names, families_of = list(choices), dict.fromkeys(pair[0] for pair in pairs if stands(pair))
    turn = {family: names[(i + start) % len(names)] for i, family in enumerate(families_of)}
    return lambda pair: turn.get(pair[0]) == pair[1]


def one_of_each_head(pairs: Iterable[tuple[str, ...]]) -> Callable[[tuple[str, ...]], bool]:
    """Chooses of pairs (family, class) the first of each head, of families that stand for a kind of
    layer: a head is what follows the backbone, the class's own or one that families share."""
    first: dict[Any, tuple[str, ...]] = {}
    for pair in filter(stands, pairs):
        mro = load(pair[0]).cls(pair[1]).__mro__
        first.setdefault(next(base for base in mro if {"head", "__call__"} & {*vars(base)}), pair)
    chosen = {*first.values()}
    return lambda pair: pair in chosen


def one_of_each_family(pairs: Iterable[tuple[str, ...]]) -> Callable[[tuple[str, ...]], bool]:
    """Chooses of pairs (family, class) one of each family, so that families that follow each other
    have different heads."""
    of_family: dict[str, list[tuple[str, ...]]] = {}
    for pair in pairs:
        of_family.setdefault(pair[0], []).append(pair)
    chosen = {own[i % len(own)] for i, own in enumerate(of_family.values())}
    return lambda pair: pair in chosen


def fields(config: Any) -> dict[str, Any]:
    """The fields of a config, without the keys that it merely keeps, and without the pattern that
    `layer_types` was made by, which 5.23 does not always write."""
    left = {"extra", getattr(config, "pattern", "")}
    named = {field.name for field in dataclasses.fields(config)}
    return {name: getattr(config, name) for name in named - left}


def tensors(model: Any, tree: Any) -> dict[str, np.ndarray]:
    """A tree like the params as the tensors of a file: by saving it."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(tree, folder, progress=False)
        return load_file(f"{folder}/model.safetensors")
