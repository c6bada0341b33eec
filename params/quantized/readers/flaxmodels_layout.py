"""The layout that flaxmodels writes, in all of its formats: docs/quantized.md says it byte by byte.

A weight `P` is the tensors `P.data`, `P.scale`, and as far as there are `P.zero`, `P.offset` and
`P.perm`, as a `QTensor` has them; `P.scale.data` and so on where scales are quantised themselves.
Where names are paths, "/" stands for ".".
"""

import dataclasses
from collections.abc import Iterable, Mapping

from ...errors import CheckpointError, quoted
from ...formats import Source, Tensor
from ...strict_json import Json
from ...tree.cast import parse_dtype
from ..packed import FIELDS, PackedTensor, packed_tensor
from ..qtensor import Form

METHOD = "flaxmodels"
VERSION = 1
_LARGEST_FACTOR = 1e38  # of float32


def read(source: Source, config: Mapping[str, Json]) -> Source:
    """Returns a source with a packed tensor for each weight of this layout.

    Raises:
        CheckpointError: a later version of the layout, a form that is none, or tensors that do not
            fit it.
    """
    if config.get("version") != VERSION:
        raise CheckpointError(
            f"{source.where}: quantization_config is of version {quoted(config.get('version'))}, "
            f"and this flaxmodels reads version {VERSION}; update it"
        )
    others = config.get("others", {})
    if not isinstance(others, Mapping):
        raise CheckpointError(f"{source.where}: quantization_config.others is no object")
    usual = form_of_json(config.get("form"), source.where)
    forms = {name: form_of_json(form, source.where) for name, form in others.items()}
    separator = "/" if any("/" in name for name in source.tensors) else "."
    tensors = {**source.tensors}
    for name in weights_of(source.tensors, separator):
        form = forms.get(name, usual)
        tensors[name] = _taken(tensors, name, form, separator)
    if odd := sorted(forms.keys() - tensors.keys()):
        raise CheckpointError(
            f"{source.where}: quantization_config names {quoted(odd[0])}, of which there are no "
            "codes"
        )
    return dataclasses.replace(source, tensors=tensors)


def config_of(forms: Mapping[str, Form]) -> dict[str, Json]:
    """Returns the `quantization_config` of a checkpoint with these weights.

    Args:
        forms: {name of a weight in the checkpoint: its form there}.
    """
    texts = {name: json_of_form(form) for name, form in forms.items()}
    each = [*texts.values()]
    usual = max(each, key=each.count)
    others = {name: form for name, form in sorted(texts.items()) if form != usual}
    return {"quant_method": METHOD, "version": VERSION, "form": usual} | (
        {"others": others} if others else {}
    )


def json_of_form(form: Form) -> dict[str, Json]:
    """Returns a form as JSON; what is so by default is left out."""
    found: dict[str, Json] = {
        "codes": form.codes,
        "block": [*form.block],
        "dtype": str(form.dtype),
    }
    for name in ("turned", "factor", "activations"):
        if (value := getattr(form, name)) != getattr(Form, name):
            found[name] = value
    for name in ("scale", "offset"):
        if (inner := getattr(form, name)) is not None:
            found[name] = json_of_form(inner)
    return found


def form_of_json(value: Json, where: str, depth: int = 0) -> Form:
    """Returns the form that JSON says; raises `CheckpointError` where it says none."""
    known = {field.name for field in dataclasses.fields(Form)}
    is_form = (
        isinstance(value, Mapping)
        and {"codes", "block"} <= value.keys() <= known
        and isinstance(value["codes"], str)
        and isinstance(value["block"], list | tuple)
        and isinstance(value.get("turned", False), bool)
        and type(value.get("factor", 1.0)) in (int, float)
        and 0 < abs(value.get("factor", 1.0)) <= _LARGEST_FACTOR
        and depth < 4
    )
    if not is_form:
        raise CheckpointError(
            f"{where}: quantization_config has the form {quoted(value)}; expected an object with "
            'codes, block and dtype, such as {"codes": "nf4", "block": [1, 64], "dtype": '
            '"bfloat16"}'
        )
    parts = {
        name: form_of_json(value[name], where, depth + 1)
        for name in ("scale", "offset")
        if value.get(name) is not None
    }
    try:
        return Form(
            value["codes"],
            tuple(value["block"]),
            parse_dtype(value.get("dtype", "float32")),
            value.get("turned", False),
            factor=float(value.get("factor", 1.0)),
            activations=value.get("activations", ""),
            **parts,
        )
    except ValueError as error:
        raise CheckpointError(f"{where}: quantization_config: {error}") from None


def weights_of(names: Iterable[str], separator: str) -> list[str]:
    """Returns the names of the weights that names of tensors speak of: those with codes and scales,
    but for scales themselves."""
    known = {*names}
    data, scale = f"{separator}data", f"{separator}scale"
    coded = (name.removesuffix(data) for name in known if name.endswith(data))
    found = [name for name in coded if known & {name + scale, name + scale + data}]
    inner = {f"{name}{separator}{key}" for name in found for key in ("scale", "offset")}
    return sorted({*found} - inner)


def _taken(tensors: dict[str, Tensor], name: str, form: Form, separator: str) -> PackedTensor:
    """Takes the fields of a weight out of `tensors`; returns it."""
    fields: dict[str, Tensor | None] = {}
    for key in FIELDS:
        field, inner = f"{name}{separator}{key}", getattr(form, key, None)
        if isinstance(inner, Form) and f"{field}{separator}data" in tensors:
            fields[key] = _taken(tensors, field, inner, separator)
        else:
            fields[key] = tensors.pop(field, None)
    if lost := [key for key in ("data", "scale") if fields[key] is None]:
        raise CheckpointError(
            f"no tensor {quoted(f'{name}{separator}{lost[0]}')}, and {form.codes} has one"
        )
    return packed_tensor(name, fields, form)
