"""Quantised weights in a load: those that a configuration speaks of, and those to be made."""

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any

from ... import params as fp
from ...config.config import Config
from ...core.model import Model
from ...documents.config_keys import QUANTISED
from ...documents.json_values import Json, thaw
from ...params.checkpoint.load_plan import LoadPlan
from ...params.checkpoint.match import Match, Piece, backbone_names
from ...params.formats.joined_tensors import part_of
from ...params.quantized.lazy_tensors import Computed
from ...params.quantized.packed import PackedTensor
from ...params.quantized.permuted import transposed
from ...params.quantized.qtensor import Form
from ...params.quantized.readers import check_read, read_quantized
from ...params.quantized.readers.flaxmodels_layout import config_of
from ...params.quantized.while_reading import quantized
from ...params.tree.layers import EXPERTS, LAYERS
from ...params.tree.leaf_places import Part
from ...params.tree.paths import matches
from .recipe import Recipe


def quantised_source(model: Model, source: fp.Source) -> fp.Source:
    """Returns a source in which each quantised weight is one tensor, as the model's configuration
    says; of one that is read so already, itself.

    Raises:
        fp.CheckpointError: a format that is not read, or tensors that are not what it says.
    """
    if _is_packed(source):
        return source
    config: Json = thaw(model.config.extra.get(QUANTISED))
    if not config:
        check_read(source)
        return source
    return _as_stored(read_quantized(source, config), config, model.naming)


_LINEAR = ("awq", "bitsandbytes", "gptq")
"""Methods whose layers hold (out, in) where PyTorch's hold (in, out), as GPT-2's Conv1D does."""


def _as_stored(source: fp.Source, config: Mapping[str, Json], naming: fp.Naming) -> fp.Source:
    """Returns the source with quantised weights in the order of axes that the naming expects."""
    if config.get("quant_method", "bitsandbytes") not in _LINEAR or not naming.kernels_in_out:
        return source

    def is_in_out(name: str, tensor: fp.Tensor) -> bool:
        path = f"/{name.removesuffix('.weight').replace('.', '/')}/kernel"
        is_quantised = isinstance(tensor, PackedTensor | Computed)
        return is_quantised and matches(naming.kernels_in_out, path)

    tensors = {
        name: transposed(tensor) if is_in_out(name, tensor) else tensor
        for name, tensor in source.tensors.items()
    }
    return dataclasses.replace(source, tensors=tensors)


def with_quantized(
    model: Model, match: Match, template: fp.Params, recipe: Recipe, *, again: bool
) -> Match:
    """Returns the match whose leaves are quantised while they are read, as a recipe says.

    Args:
        again: whether weights that are quantised in the checkpoint are made anew.

    Raises:
        TypeError: they are, and need not be.
        ValueError: a recipe that does not fit the model.
        fp.CheckpointError: a leaf whose rows do not fill whole bytes.
    """
    if _is_packed(match.source) and not again:
        raise TypeError(
            f"{match.source.where} is quantised already; leave quantization_config out, or give "
            "dequantize=True too, to have it made anew"
        )
    names = {path: [x.tensor.name for x in pieces] for path, pieces in match.found.items()}
    defaults = _by_default(model, template, heads=recipe.skipped is not None)
    forms = recipe.forms(template, names, lambda path, leaf: path in defaults)
    found = {
        path: tuple(_made(piece, forms.get(path)) for piece in pieces)
        for path, pieces in match.found.items()
    }
    return dataclasses.replace(match, found=found)


def config_after(config: Config, plan: LoadPlan, *, dequantize: bool, made: bool) -> Config:
    """Returns the configuration of the model that a load gives: it says how weights are quantised
    where they are."""
    if made:
        forms: Any = config_of(plan.packed)
        return config.replace(extra={**config.extra, QUANTISED: forms})
    return without_quantization(config) if dequantize else config


def without_quantization(config: Config) -> Config:
    """Returns a configuration without the key that says how weights are quantised."""
    extra = {key: value for key, value in config.extra.items() if key != QUANTISED}
    return config if len(extra) == len(config.extra) else config.replace(extra=extra)


def _is_packed(source: fp.Source) -> bool:
    return any(isinstance(tensor, PackedTensor) for tensor in source.tensors.values())


def _by_default(model: Model, template: fp.Params, *, heads: bool) -> set[str]:
    """Returns the paths of the leaves that are quantised by default: kernels of products whose rows
    fill whole bytes, in the backbone or, with `heads`, everywhere."""
    leaves = fp.flatten(template)

    def is_product(path: str, leaf: Any) -> bool:
        lead = len([*itertools.takewhile((LAYERS, EXPERTS).__contains__, leaf.axes)])
        return path.endswith("/kernel") and len(leaf.shape) == lead + 2 and leaf.shape[-2] % 8 == 0

    products = {path for path, leaf in leaves.items() if is_product(path, leaf)}
    if heads:
        return products
    backbone = backbone_names(leaves, leaves, model.base_model_prefix, model.naming)
    return products.intersection(backbone) - {model.output_embeddings_path or ""}


def _made(piece: Piece, form: Form | None) -> Piece:
    """Returns the piece that is quantised, or, if it is not to be, its numbers."""
    tensor = piece.tensor
    if form is None:
        if not isinstance(tensor, PackedTensor):
            return piece
        return dataclasses.replace(piece, tensor=part_of(tensor, Part(0, 1, 0, tensor.shape[0])))
    last = len(piece.permutation) - 1
    turned = form.turned ^ (piece.permutation[-2:] == (last, last - 1))
    form = dataclasses.replace(form, turned=turned, dtype=tensor.dtype)
    return dataclasses.replace(piece, tensor=quantized(tensor, form))
