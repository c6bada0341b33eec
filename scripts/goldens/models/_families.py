"""Reads the tables of `tests/families`: what the reference is asked about each family."""

import dataclasses
import functools
import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _weights import integers, uniform

FOLDER = Path(__file__).resolve().parents[3] / "tests" / "families"
LENGTH, PADDING = 13, 4
GENERATING = ("CausalLM", "LMHeadModel", "ForConditionalGeneration", "MTModel")
GENERATING += ("EncoderDecoderModel",)
TOKENS = {
    "vocab_size": 61,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "num_labels": 3,
}


@dataclasses.dataclass(frozen=True)
class Family:
    """One family's table; its file says each value in capitals; other names are its own.

    A table of a family that is another's but for values says `LIKE = "roberta"` and
    `PREFIX = "Camembert"`, what names of classes begin with: what it does not say is as there, and
    its `CONFIG` and `UNREAD` are added to those.

    Attributes:
        config: a tiny config.json beside `TOKENS`: all that is particular to the family is in it.
        stands_for: the kind of layer that the family stands for in the default run of the tests:
            its outputs, gradients, decoding and fields are tried in full. Of a family that says
            nothing, its layers being another's but for values, these run with `--all`.
        classes: class -> the auto class that finds it, None if none does. The first is the bare
            model; the first that generates, or else fills in masked tokens, stands for the family
            where one class does.
        variants: name -> keys of the config that change the mathematics; tried with `main`.
        changed: class -> keys of the config that this class needs.
        same: tensor -> the tensor that a model has one parameter with.
        computed: how names of tensors end that are no weights: the reference writes them, and they
            stand in the golden.
        encodes: whether it reads a text both ways: padded on the right, and with token types if
            there are any.
        decodes: whether a decoder reads what an encoder made: both are padded on the right.
        generating: the variant whose greedy tokens are asked for; None for `main` itself.
        fused: variants that the reference computes right by "sdpa" alone, not by "eager".
        takes_positions: whether the reference is given `position_ids` with padding, or finds them.
        first_position: of a text; `generate` of the reference has to be told if it is not 0.
        hub: renames the tensors of a fresh checkpoint of the reference, {name: value}, as those of
            the Hub are named, where it writes other names than it and everyone reads; these stand
            in the golden, and are what we write.
        walk: field -> (values to change it to, or None for those of its kind; keys that the config
            has then), in the walk over fields of `tests/models/test_fields.py`.
        unread: field -> why no program depends on it.
    """

    model_type: str
    config: dict[str, Any]
    classes: dict[str, str | None]
    stands_for: str = ""
    variants: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    changed: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    same: dict[str, str] = dataclasses.field(default_factory=dict)
    computed: tuple[str, ...] = ()
    encodes: bool = False
    decodes: bool = False
    generating: str | None = None
    fused: tuple[str, ...] = ()
    takes_positions: bool = True
    first_position: int = 0
    hub: Callable[[dict[str, Any]], dict[str, Any]] = dict
    walk: dict[str, tuple[list[Any] | None, dict[str, Any]]] = dataclasses.field(
        default_factory=dict
    )
    unread: dict[str, str] = dataclasses.field(default_factory=dict)

    def attention(self, case: str) -> str:
        """Returns which attention of the reference computes a class or variant."""
        return "sdpa" if case in self.fused else "eager"

    @property
    def bare(self) -> str:
        """The class without a head."""
        return next(iter(self.classes))

    @property
    def main(self) -> str:
        """The class with a language model's head."""
        models = [name for name in self.classes if name.endswith(GENERATING)]
        models += [name for name in self.classes if name.endswith("MaskedLM")]
        return models[0]

    @property
    def generates(self) -> bool:
        """Whether `main` continues texts."""
        return self.main.endswith(GENERATING)

    def inputs_of(self, name: str) -> tuple[str, ...]:
        """Returns which inputs a class or a variant is given, beside "whole"."""
        alone = self.decodes and name.endswith("ForCausalLM")
        return ("alone", "cross") if alone else ("padded",)

    def config_of(self, name: str) -> dict[str, Any]:
        """Returns the config.json of a class, as it is given to the reference."""
        return TOKENS | self.config | self.changed.get(name, {}) | {"architectures": [name]}


@functools.cache
def load(model_type: str) -> Family:
    """Reads one table."""
    values = runpy.run_path(str(FOLDER / f"{model_type}.py"))
    own = {name.lower(): value for name, value in values.items() if name[0].isupper()}
    if "like" in own:
        own = _changed(load(own.pop("like")), own.pop("prefix"), own)
    return Family(model_type, **own)


def _changed(other: Family, prefix: str, own: dict[str, Any]) -> dict[str, Any]:
    """Makes the values of a table of those of another, and of what its own file says."""
    theirs = other.bare.removesuffix("Model")

    def named(table: dict[str, Any]) -> dict[str, Any]:
        return {prefix + name.removeprefix(theirs): value for name, value in table.items()}

    names = [field.name for field in dataclasses.fields(Family)]
    values = {name: getattr(other, name) for name in names if name != "stands_for"}
    del values["model_type"]
    values |= {"classes": named(other.classes), "changed": named(other.changed), **own}
    added = {name: getattr(other, name) | own.get(name, {}) for name in ("config", "unread")}
    return values | added


def names() -> list[str]:
    """Lists the families that have a table."""
    return sorted(path.stem for path in FOLDER.glob("*.py"))


def arrays_of(inputs: dict[str, Any]) -> dict[str, np.ndarray]:
    """Makes arrays of the inputs of a golden: int32 of lists, and float32 of `{"uniform": shape}`,
    drawn by the argument's name."""
    return {
        name: uniform(name, value["uniform"])
        if isinstance(value, dict)
        else np.asarray(value, np.int32)
        for name, value in inputs.items()
    }


def for_class(name: str, inputs: dict[str, Any]) -> dict[str, Any]:
    """Gives inputs an axis for choices, where the class has one: the second choice of a row is the
    other row. Positions are left out there, which the reference does not fold. A sequence is
    classified by a decoder that reads the encoder's tokens, and tokens by the encoder alone; a
    decoder alone reads the decoder's."""
    if name.endswith("ForCausalLM"):
        its = {key: rows for key, rows in inputs.items() if key.startswith("decoder_")}
        return {key.removeprefix("decoder_"): rows for key, rows in its.items()} or inputs
    if name.endswith(("ForSequenceClassification", "ForTokenClassification", "EncoderModel")):
        return {key: rows for key, rows in inputs.items() if not key.startswith("decoder_")}
    if not name.endswith(("ForMultipleChoice", "DoubleHeadsModel")):
        return inputs
    return {
        key: [[row, other] for row, other in zip(rows, rows[::-1], strict=True)]
        for key, rows in inputs.items()
        if key != "position_ids"
    }


def make_inputs(family: Family) -> dict[str, dict[str, Any]]:
    """Draws two rows, the second padded; and the tokens of the second, as rows of their own."""
    if family.decodes:
        return _inputs_of_both()
    ids = integers("input_ids", (2, LENGTH), 3, TOKENS["vocab_size"])
    mask = np.ones((2, LENGTH), np.int32)
    pads = slice(LENGTH - PADDING, None) if family.encodes else slice(0, PADDING)
    mask[1, pads] = 0
    ids = np.where(mask, ids, (TOKENS | family.config)["pad_token_id"])
    padded, whole = {"input_ids": ids, "attention_mask": mask}, {"input_ids": ids[1:, mask[1] == 1]}
    if family.encodes:
        if types := family.config.get("type_vocab_size"):
            types = integers("token_type_ids", ids.shape, 0, types)
            padded["token_type_ids"], whole["token_type_ids"] = types, types[1:, mask[1] == 1]
    elif family.takes_positions:
        padded["position_ids"] = np.maximum(mask.cumsum(-1) - 1, 0)
    return {
        key: {name: array.tolist() for name, array in given.items()}
        for key, given in (("padded", padded), ("whole", whole))
    }


def _inputs_of_both() -> dict[str, dict[str, Any]]:
    """Draws the same for an encoder, each row of which ends with the token that ends texts, and
    for a decoder; and for the decoder "alone"."""
    padded, whole = {}, {}
    for half, length, pads in (("", LENGTH, PADDING), ("decoder_", 7, 2)):
        ids = integers(f"{half}input_ids", (2, length), 3, TOKENS["vocab_size"])
        mask = np.ones((2, length), np.int32)
        mask[1, length - pads :] = 0
        if not half:
            ids[0, -1] = ids[1, length - pads - 1] = TOKENS["eos_token_id"]
        padded[f"{half}input_ids"] = np.where(mask, ids, TOKENS["pad_token_id"])
        padded[f"{half}attention_mask"] = mask
        whole[f"{half}input_ids"] = ids[1:, mask[1] == 1]
    alone = {name: padded[f"decoder_{name}"] for name in ("input_ids", "attention_mask")}
    return {
        key: {name: array.tolist() for name, array in given.items()}
        for key, given in (("padded", padded), ("whole", whole), ("alone", alone))
    }


def text_of(golden: dict[str, Any]) -> str:
    """Writes JSON with a line for each tensor or row, so that a change can be read."""

    def lines(value: Any, indent: str) -> str:
        if isinstance(value, dict) and value:
            items = (f'{indent}  "{k}": {lines(v, indent + "  ")}' for k, v in value.items())
            return "{\n" + ",\n".join(items) + f"\n{indent}}}"
        return json.dumps(value)

    return lines(golden, "") + "\n"
