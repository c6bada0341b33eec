"""What a caller asks to be quantised, in Transformers' spelling or in ours, as one value."""

import dataclasses
import operator
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeAlias

import jax.numpy as jnp
import numpy as np

from ... import params as fp
from ...params.errors import warn
from ...params.quantized.make import SCHEMES, form_of
from ...params.quantized.nested_scales import BLOCK
from ...params.quantized.qtensor import Form
from ...params.scalars import flag
from ...params.tree.cast import check_patterns
from ...params.tree.masks import Mask, as_mask
from ...params.tree.paths import compiled, flatten, matches, nearest

Given: TypeAlias = dict[str, Any]
"""What a caller gave, of which each check takes what it knows."""

_SCALES = Form("dynamic8", (1, BLOCK), jnp.dtype("float32"))
"""Scales of a double quantisation: bitsandbytes' 8 bits, and one number for 256 of them."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Which leaves are quantised, and how.

    Attributes:
        schemes: ordered (pattern on the path, form); None is the pattern of the leaves that are
            quantised by default: kernels of products, but for those of heads.
        skipped: names of modules, as a checkpoint has them, that are left out instead of heads;
            heads are if None.
        mask: leaves that are quantised; those that patterns or the default choose if None.
    """

    schemes: tuple[tuple[str | None, Form], ...]
    skipped: tuple[str, ...] | None = None
    mask: Mask = None

    @classmethod
    def of(cls, config: object, load_in_8bit: bool = False, load_in_4bit: bool = False) -> "Recipe":
        """Makes a recipe of a dict, of an object of Transformers' with `to_dict`, or of the two old
        keywords.

        Raises:
            TypeError: no dict, or a key that has no effect here.
            ValueError: a method or scheme that is not made here.
        """
        old = {"load_in_8bit": load_in_8bit, "load_in_4bit": load_in_4bit}
        asked = [name for name, value in old.items() if value]
        if asked:
            if config is not None:
                raise TypeError(f"give quantization_config or {asked[0]}, not both")
            warn(
                f"{asked[0]} is now quantization_config; give quantization_config="
                f"{{'{asked[0]}': True}}",
                FutureWarning,
            )
            config = {name: True for name in asked}
        if hasattr(config, "to_dict"):
            config = config.to_dict()  # pyright: ignore[reportAttributeAccessIssue]
        if not isinstance(config, Mapping):
            raise TypeError(
                f"quantization_config is a {type(config).__name__}; give a dict, such as "
                "{'load_in_4bit': True, 'bnb_4bit_quant_type': 'nf4'} or {'quant_method': "
                "'flaxmodels', 'scheme': 'int8'}"
            )
        given = dict(config)
        method = given.pop("quant_method", None)
        method = getattr(method, "value", method)  # of an enumeration
        if method is None:
            method = "flaxmodels" if given.keys() & {"scheme", "schemes"} else "bitsandbytes"
        if not isinstance(method, str) or method not in _METHODS:
            raise ValueError(
                f"quantization_config: {method!r} is not made here; {', '.join(_METHODS)} are. "
                "What is calibrated (gptq, awq) is made by its own tools, and read"
            )
        recipe = _METHODS[method](given)
        if odd := sorted(str(name) for name, value in given.items() if value is not None):
            raise TypeError(
                f"quantization_config: {', '.join(odd)} would have no effect on {method}; leave it "
                "out"
            )
        return recipe

    def forms(
        self, template: fp.PyTree, names: Mapping[str, Sequence[str]], by_default: Callable
    ) -> dict[str, Form]:
        """Returns {path: form} of the leaves that are quantised.

        Args:
            template: abstract params.
            names: {path: the tensors that make the leaf}.
            by_default: (path, leaf) -> whether it is quantised where nothing chooses it.

        Raises:
            ValueError: a pattern that no path matches, or one that chooses what has no rows and
                columns; a module that is left out and is none.
        """
        leaves = flatten(template)
        modules = [*_HEADS, *(x.rpartition(".")[0] for each in names.values() for x in each)]
        for text in self.skipped or ():
            if not any(_is_of(text, module) for module in modules):
                raise ValueError(
                    f"quantization_config: no module is {text!r}, to be left out"
                    f"{nearest(text, modules)}"
                )
        chosen = None if self.mask is None else flatten(as_mask(self.mask, template))
        patterns = {pattern: form for pattern, form in self.schemes if pattern is not None}
        check_patterns("quantization_config", patterns, leaves)
        found = {}
        for path, leaf in leaves.items():
            form = self._form(path, leaf, by_default if chosen is None else None)
            own = [name.rpartition(".")[0] for name in names.get(path, ())]
            if form is None or any(_is_of(x, y) for x in self.skipped or () for y in own):
                continue
            if chosen is None or chosen[path]:
                found[path] = dataclasses.replace(form, turned=path.endswith("/kernel"))
        if not found:
            raise ValueError("quantization_config chooses no leaf of this model")
        return found

    def _form(self, path: str, leaf: Any, by_default: Callable | None) -> Form | None:
        for pattern, form in self.schemes:
            if pattern is None:
                if by_default is None or by_default(path, leaf):
                    return form
            elif matches(pattern, path) and len(leaf.shape) >= 2:
                if path.endswith(("/kernel", "/embedding")):
                    return form
        return None


_HEADS = ("lm_head", "score", "classifier", "qa_outputs")
"""Modules that a list for all models names, and that one has tied to a table, or has not."""


def _is_of(text: str, module: str) -> bool:
    """Tells whether a module is meant by a text of those that are left out, by Transformers' rule:
    an expression that matches it from its beginning to the end of a name in it, or the end of
    it."""
    boundary = r"(?:(?<=\.)|(?=\.|$))"
    return bool(compiled(f"(?:{text}){boundary}").match(module)) or module.endswith(text)


def _bitsandbytes(given: Given) -> Recipe:
    said = ", ".join(map(str, given)) or "nothing"
    flags = {n: _flag(given, n) for n in ("load_in_8bit", "load_in_4bit")}
    for name in flags:
        flags[name] |= _flag(given, f"_{name}")  # of an object of Transformers'
    eight, four = flags.values()
    if eight == four:
        raise ValueError(
            f"quantization_config has {said}; give one of load_in_8bit and load_in_4bit"
        )
    skipped = _names(given, "llm_int8_skip_modules")
    kind = given.pop("bnb_4bit_quant_type", "fp4")
    double = _flag(given, "bnb_4bit_use_double_quant")
    if given.pop("bnb_4bit_compute_dtype", None) not in (None, "float32"):
        warn("bnb_4bit_compute_dtype is not read: a model computes in its dtype=; leave it out")
    given.pop("bnb_4bit_quant_storage", None)  # how its bytes are seen, which are the same
    _drop(given, llm_int8_threshold=6.0, llm_int8_enable_fp32_cpu_offload=False)
    _drop(given, llm_int8_has_fp16_weight=False)
    if eight:
        return Recipe(((None, form_of("int8")),), skipped)
    if kind not in ("nf4", "fp4"):
        raise ValueError(f"bnb_4bit_quant_type is {kind!r}; expected 'nf4' or 'fp4'")
    form = form_of(kind)
    return Recipe(((None, dataclasses.replace(form, scale=_SCALES if double else None)),), skipped)


def _fp8(given: Given) -> Recipe:
    block = given.pop("weight_block_size", (128, 128))
    skipped = _names(given, "modules_to_not_convert")
    _drop(given, activation_scheme="dynamic", dequantize=False)
    block = "tensor" if block is None else block
    return Recipe(((None, _with_block(form_of("float8_block"), block)),), skipped)


def _ours(given: Given) -> Recipe:
    block, double = given.pop("block", None), _flag(given, "double_quant")
    mask, skipped = given.pop("mask", None), _names(given, "modules_to_not_convert")
    schemes, scheme = given.pop("schemes", None), given.pop("scheme", None)
    if isinstance(patterns := given.get("patterns"), str):
        given["patterns"] = [patterns]
    patterns = _names(given, "patterns")
    if (schemes is None) == (scheme is None):
        raise TypeError(
            "quantization_config: give scheme, or schemes: an ordered {regular expression on the "
            "path: scheme}"
        )
    if schemes is not None:
        if patterns is not None or mask is not None:
            raise TypeError(
                "quantization_config: schemes has patterns; leave patterns and mask out"
            )
        try:
            pairs = [*dict(schemes).items()]
        except (TypeError, ValueError):
            raise TypeError(
                f"quantization_config: schemes is {schemes!r}; expected a dict"
            ) from None
    else:
        pairs = [(pattern, scheme) for pattern in (patterns or [None])]

    def form(name: object) -> Form:
        made = form_of({"float8_e4m3fn": "float8"}.get(str(name), str(name)))
        made = made if block is None else _with_block(made, block)
        return dataclasses.replace(made, scale=_SCALES if double else None)

    for pattern, _ in pairs:
        if pattern is not None:
            compiled(pattern)
    return Recipe(tuple((pattern, form(name)) for pattern, name in pairs), skipped, mask)


def _with_block(form: Form, block: object) -> Form:
    """Returns a form in blocks as callers say them: a number along the input axis, (rows, columns)
    as stored, "channel" (an output) or "tensor"."""
    words = {"channel": (1, -1), "tensor": (-1, -1)}
    if isinstance(block, str) and block in words:
        return dataclasses.replace(form, block=words[block])
    sizes = (1, block) if isinstance(block, int | np.integer) else block
    try:
        if isinstance(block, bool):
            raise TypeError
        sizes = tuple(map(operator.index, sizes))  # type: ignore[arg-type]
        made = dataclasses.replace(form, block=sizes)
    except (TypeError, ValueError):
        raise ValueError(
            f"quantization_config: block is {block!r}; expected a number, (rows, columns), "
            f"{' or '.join(map(repr, words))}; schemes are {', '.join(SCHEMES)}"
        ) from None
    if made.block[0] == -1 != made.block[1]:
        raise ValueError(
            f"quantization_config: block {block!r} spans all rows, but not all columns"
        )
    return made


def _drop(given: Given, **fine: object) -> None:
    """Takes out what says what is so anyway."""
    for name, value in fine.items():
        if given.get(name, value) == value:
            given.pop(name, None)


def _flag(given: Given, name: str) -> bool:
    """Takes a bool out of what is given; absent and None are False."""
    value = given.pop(name, None)
    return value is not None and flag(f"quantization_config: {name}", value)


def _names(given: Given, name: str) -> tuple[str, ...] | None:
    """Takes regular expressions out of what is given; None where there are none. An empty list is
    one: where it says what is left out, Transformers leaves out nothing."""
    texts = given.pop(name, None)
    if texts is None:
        return None
    is_list = isinstance(texts, Collection) and not isinstance(texts, str)
    if not is_list or any(not isinstance(text, str) for text in texts):
        raise TypeError(
            f"quantization_config: {name} is {texts!r}; give a list of names of modules, such as "
            "['lm_head']"
        )
    for text in texts:
        compiled(text)
    return tuple(texts)


_METHODS: dict[str, Callable[[Given], Recipe]] = {
    "bitsandbytes": _bitsandbytes,
    "fp8": _fp8,
    "flaxmodels": _ours,
}
