"""Quantised weights of checkpoints, read in parts (P13.26)."""

import dataclasses
import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from flaxmodels import params as fp
from flaxmodels.params.formats.source import ArrayTensor, Source
from flaxmodels.params.quantized.codes import codes_of, pack
from flaxmodels.params.quantized.lazy_tensors import Scales, viewed
from flaxmodels.params.quantized.packed import PackedTensor, layer_of, packed_tensor, share_of
from flaxmodels.params.quantized.qtensor import Form, QTensor
from flaxmodels.params.quantized.readers import check_read, read_quantized
from flaxmodels.params.tree.leaf_places import Part
from flaxmodels.params.tree.naming import TORCH

RNG = np.random.default_rng(0)
BLOCKS = [(1, 8), (8, 1), (-1, -1), (16, 16), (1, -1)]


def array(name, values):
    return ArrayTensor(name, values.shape, values.dtype, array=values)


def drawn(codes, block, shape, *, turned=False, has=(), factor=1.0):
    """Draws the same weight twice: (as a tensor of a checkpoint, as a value)."""
    kind, form = codes_of(codes), Form(codes, block, np.dtype(np.float32), turned, factor=factor)
    numbers = RNG.integers(0, 1 << kind.bits, shape).astype(np.uint8)
    data = RNG.normal(size=shape) if kind.kind == "float" else pack(numbers, kind.bits, -1)
    blocks = form.blocks(shape)
    fields = {"data": data.astype(kind.stored), "scale": RNG.normal(size=blocks).astype("f2")}
    if "zero" in has:
        fields["zero"] = RNG.integers(0, 8, blocks).astype(np.uint8)
    if "perm" in has:
        lead = np.zeros((*shape[:-2], 1), np.int32)
        fields["perm"] = lead + RNG.permutation(shape[-1]).astype(np.int32)
    tensors = {key: array(f"w.{key}", value) for key, value in fields.items()}
    for key in {"scale", "offset"}.intersection(has):
        tensors[key], fields[key] = drawn("uint8", (1, 2), blocks)
        form = dataclasses.replace(form, **{key: fields[key].form})
    return packed_tensor("w", tensors, form), QTensor(**fields, form=form)


def part_by_numpy(values, part):
    moved = np.moveaxis(values, part.axis, 0)
    runs = moved.reshape(part.groups, -1, *moved.shape[1:])[:, part.start : part.stop]
    return np.moveaxis(runs.reshape(-1, *moved.shape[1:]), 0, part.axis)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("has", [(), ("zero", "perm"), ("scale", "offset")], ids=str)
@pytest.mark.parametrize("codes", ["int8", "nf4", "uint3", "float8_e4m3fn"])
def test_parts_are_read_as_the_whole_is_decoded(codes, has, turned):
    for block, lead in itertools.product(BLOCKS, [(), (2,)]):
        packed, value = drawn(codes, block, (*lead, 40, 48), turned=turned, has=has)
        dense = value.dense()
        assert packed.shape == dense.shape and packed.dtype == np.float32
        assert packed.nbytes == value.nbytes
        np.testing.assert_array_equal(packed.read(), dense)
        bounds = (*((1, 2) for _ in lead), (3, 29), (5, 37))
        cut = dense[tuple(slice(*bound) for bound in bounds)]
        np.testing.assert_array_equal(packed.read(bounds), cut)
        if lead:
            np.testing.assert_array_equal(layer_of(packed, 1, "layer").read(), dense[1])


@pytest.mark.parametrize("has", [(), ("zero", "perm"), ("scale",)], ids=str)
def test_parts_stay_packed_where_they_hold_whole_bytes(has):
    parts = [Part(0, 1, 8, 32), Part(0, 2, 0, 8), Part(1, 2, 8, 16), Part(0, 1, 5, 20)]
    for block, turned, axes in itertools.product([(8, 8), (1, 16), (-1, -1)], [False, True], parts):
        packed, value = drawn("nf4", block, (32, 64), turned=turned, has=has)
        part = dataclasses.replace(axes, axis=1 - axes.axis) if turned else axes
        found = share_of(packed, part)
        np.testing.assert_array_equal(found.read(), part_by_numpy(value.dense(), part))
        stays = axes.axis == 0 or "perm" not in has
        assert isinstance(found, PackedTensor) is stays
        if isinstance(found, PackedTensor):
            packed_tensor("again", found.fields, found.form)  # its fields fit each other
    odd = share_of(drawn("nf4", (1, 16), (32, 64))[0], Part(1, 1, 3, 20))
    assert not isinstance(odd, PackedTensor)  # it begins in the middle of a byte


def test_fields_that_do_not_fit_are_refused():
    data, form = np.zeros((8, 16), np.uint8), Form("nf4", (1, 16), jnp.dtype("bfloat16"))
    fields = {"data": array("w", data), "scale": array("w.absmax", np.ones((8, 4), "f4"))}
    with pytest.raises(fp.CheckpointError, match=r"'w.absmax' has shape \(8, 4\).*\(8, 2\)"):
        packed_tensor("w", fields, form)
    fields = {"data": array("w", data.astype(np.int8)), "scale": array("s", np.ones((8, 2)))}
    with pytest.raises(fp.CheckpointError, match="'w' has dtype int8, and nf4 is stored as uint8"):
        packed_tensor("w", fields, form)
    fields = {"data": array("w", data), "scale": array("s", np.ones((8, 1)))}
    with pytest.raises(fp.CheckpointError, match="no whole runs of 8 numbers of 3 bits"):
        packed_tensor("w", fields, Form("uint3", (1, -1), jnp.dtype("bfloat16")))


@pytest.mark.parametrize("odd", [np.nan, np.inf, 0])
def test_scales_are_finite(odd):
    scales = np.ones((4, 2), np.float32)
    scales[2, 1] = odd
    fields = {"data": array("w", np.zeros((4, 16), np.int8)), "scale": array("w.s", scales)}
    form = Form("int8", (1, 8), jnp.dtype("float32"))
    with pytest.raises(fp.CheckpointError, match=r"'w\.s' holds .* at \(2, 1\), and a scale"):
        packed_tensor("w", fields, form, scales=Scales.NOT_ZERO).read()
    if odd == 0:
        assert not packed_tensor("w", fields, form).read().any()


def test_bytes_are_viewed():
    values = np.arange(24, dtype=np.int32).reshape(4, 6)
    tensor = array("w", values)
    np.testing.assert_array_equal(
        viewed(tensor, (8, -1), np.dtype(np.uint8)).read().ravel(), (values.view(np.uint8).ravel())
    )
    with pytest.raises(fp.CheckpointError, match="'w' has shape"):
        viewed(tensor, (5, 6))


def test_what_is_not_read_is_refused_by_name():
    source = Source("x", {"a.qweight": array("a.qweight", np.zeros((2, 2), np.int32))}, TORCH)
    with pytest.raises(fp.CheckpointError, match="'torchao' are not read; take the original"):
        read_quantized(source, {"quant_method": "torchao"})
    with pytest.raises(fp.CheckpointError, match="'zip' are not read; those that are read are awq"):
        read_quantized(source, {"quant_method": "zip"})
    with pytest.raises(fp.CheckpointError, match="quant_method '3'; expected a name"):
        read_quantized(source, {"quant_method": 3})
    with pytest.raises(fp.CheckpointError, match="packing_format 'odd' is not read"):
        read_quantized(source, {"quant_method": "auto-round", "packing_format": "odd"})
    with pytest.raises(
        fp.CheckpointError, match="quantised by gptq or awq; check quantization_conf"
    ):
        check_read(source)
