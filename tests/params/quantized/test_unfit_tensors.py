"""Quantised checkpoints that do not fit: refused with file, tensor, expected, found, way out
(P10, P13.26)."""

import copy
import re
import time

import jax.numpy as jnp
import numpy as np
import pytest

from flaxmodels.params.checkpoint.sources import source_of
from flaxmodels.params.errors import CheckpointError
from flaxmodels.params.quantized.packed import PackedTensor
from flaxmodels.params.quantized.readers import read_quantized
from flaxmodels.params.quantized.readers.settings import file_patterns

E4M3 = jnp.float8_e4m3fn


def fp8(**changes):
    tensors = {
        "a.weight": np.ones((8, 12), E4M3),
        "a.weight_scale_inv": np.ones((2, 2), np.float32),
    }
    return tensors | changes, {"quant_method": "fp8", "weight_block_size": [4, 8]}


def packed(**changes):
    tensors = {
        "a.weight_packed": np.zeros((8, 2), np.int32),
        "a.weight_scale": np.ones((8, 2), np.float32),
        "a.weight_shape": np.int64([8, 16]),
    }
    weights = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 8}
    return {**tensors, **changes}, {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}},
    }


def plain(weight, **weights):
    tensors, config = packed()
    config["format"] = "naive-quantized"
    config["config_groups"]["group_0"]["weights"] = {"num_bits": 8, "type": "float"} | weights
    return {"a.weight": weight, "a.weight_scale": np.ones(1, np.float32)}, config


def nvfp4(**changes):
    _, config = packed()
    config["format"] = "nvfp4-pack-quantized"
    weights = {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16}
    config["config_groups"]["group_0"]["weights"] = weights
    tensors = {
        "a.weight_packed": np.zeros((8, 16), np.uint8),
        "a.weight_scale": np.ones((8, 2), E4M3),
        "a.weight_global_scale": np.ones(1, np.float32),
    }
    return {**tensors, **changes}, config


def mxfp4(**changes):
    tensors = {
        "x.gate_up_proj_blocks": np.zeros((2, 6, 3, 16), np.uint8),
        "x.gate_up_proj_scales": np.full((2, 6, 3), 127, np.uint8),
    }
    return {**tensors, **changes}, {"quant_method": "mxfp4"}


def ours(**changes):
    tensors = {"a.weight.data": np.ones((8, 12), np.int8), "a.weight.scale": np.ones((8, 1), "f4")}
    form = {"codes": "int8", "block": [1, -1], "dtype": "float32"}
    return {**tensors, **changes}, {"quant_method": "flaxmodels", "version": 1, "form": form}


def without(made, *names):
    tensors, config = made
    return {name: x for name, x in tensors.items() if name not in names}, config


def having(made, path, value):
    """Returns a case whose quantization_config has another value at a path of keys."""
    tensors, config = made
    config = copy.deepcopy(config)
    inner = config
    *front, last = path.split("/")
    for key in front:
        inner = inner[key]
    inner[last] = value
    return tensors, config


WEIGHTS = "config_groups/group_0/weights"
UNFIT = {
    # ours
    "ours: integers as scale": (
        ours(**{"a.weight.scale": np.ones((8, 1), np.int32)}),
        "has dtype int32 as scale of 'a.weight'; expected floating numbers",
    ),
    "ours: floats as zero": (
        ours(**{"a.weight.zero": np.ones((8, 1), np.float32)}),
        "has dtype float32 as zero of 'a.weight'; expected integer numbers",
    ),
    "ours: factor 0": (having(ours(), "form/factor", 0), "expected an object with codes"),
    "ours: endless factor": (having(ours(), "form/factor", 1e39), "expected an object with codes"),
    # FP8
    "fp8: no scale": (without(fp8(), "a.weight_scale_inv"), "no 'a.weight_scale_inv' beside it"),
    "fp8: no weight": (without(fp8(), "a.weight"), "'a.weight_scale_inv' has no weight"),
    "fp8: scale of another weight": (
        fp8(**{"a.weight_scale_inv": np.ones((2, 3), np.float32)}),
        "(2, 3), and 'a.weight' of shape (8, 12) is in blocks of (4, 8): check weight_block_size",
    ),
    "fp8: blocks of another size": (
        having(fp8(), "weight_block_size", [2, 8]),
        "shape (2, 2), and 'a.weight'",
    ),
    "fp8: transposed scale": (
        fp8(**{"a.weight": np.ones((16, 8), E4M3), "a.weight_scale_inv": np.ones((1, 4), "f4")}),
        "shape (1, 4), and",
    ),
    "fp8: integers as scale": (
        fp8(**{"a.weight_scale_inv": np.ones((2, 2), np.int32)}),
        "has dtype int32; scales are",
    ),
    "fp8: no 8-bit weight": (
        fp8(**{"a.weight": np.ones((8, 12), np.float32)}),
        "not of 8 bits",
    ),
    "fp8: int8 weight": (fp8(**{"a.weight": np.ones((8, 12), np.int8)}), "expected float8_e4m3fn"),
    "fp8: one axis": (fp8(**{"a.weight": np.ones(8, E4M3)}), "expected rows and columns"),
    "fp8: two scales": (fp8(**{"a.weight_scale": np.float32(1)}), "has two scales"),
    "fp8: block of three": (
        having(fp8(), "weight_block_size", [1, 2, 3]),
        "weight_block_size is '[1, 2, 3]'; expected two positive whole numbers",
    ),
    "fp8: block of 0": (having(fp8(), "weight_block_size", [0, 8]), "two positive whole numbers"),
    "fp8: block of true": (
        having(fp8(), "weight_block_size", [True, 8]),
        "two positive whole numbers",
    ),
    "fp8: block of a text": (having(fp8(), "weight_block_size", "128"), "two positive whole"),
    "fp8: endless block": (
        having(fp8(), "weight_block_size", [10**30, 1]),
        "two positive whole numbers",
    ),
    "fp8: names of no list": (having(fp8(), "modules_to_not_convert", {"a": 1}), "list of texts"),
    "fp8: experts of another kind": (having(fp8(), "expert_dtype", "int3"), "fp8 or fp4"),
    # compressed-tensors
    "packed: no scale": (without(packed(), "a.weight_scale"), "no 'a.weight_scale' beside it"),
    "packed: no weight": (without(packed(), "a.weight_packed"), "has no weight to go with"),
    "packed: no shape, no groups": (
        having(without(packed(), "a.weight_shape"), WEIGHTS, {"num_bits": 4, "strategy": "tensor"}),
        "no 'weight_shape' beside it",
    ),
    "packed: a shape that lies": (
        packed(**{"a.weight_shape": np.int64([8, 40])}),
        "says that the weight is (8, 40), and 'a.weight_packed' of shape (8, 2)",
    ),
    "packed: rows that lie": (packed(**{"a.weight_shape": np.int64([9, 16])}), "is (9, 16)"),
    "packed: a negative shape": (packed(**{"a.weight_shape": np.int64([8, -16])}), "is (8, -16)"),
    "packed: an endless shape": (
        packed(**{"a.weight_shape": np.int64([2**62, 2**62])}),
        "says that the weight",
    ),
    "packed: a shape of floats": (
        packed(**{"a.weight_shape": np.float32([8, 16])}),
        "expected 2 integers",
    ),
    "packed: other bits": (having(packed(), f"{WEIGHTS}/num_bits", 8), "check num_bits"),
    "packed: unknown bits": (
        having(packed(), f"{WEIGHTS}/num_bits", 9),
        "num_bits is '9'; expected 2 or 3 or 4",
    ),
    "packed: bits of null": (having(packed(), f"{WEIGHTS}/num_bits", 0), "num_bits is '0'"),
    "packed: other groups": (
        having(packed(), f"{WEIGHTS}/group_size", 4),
        "has shape (8, 2); 'a.weight_packed' in blocks of (1, 4) has (8, 4)",
    ),
    "packed: no group size": (
        having(packed(), f"{WEIGHTS}/group_size", None),
        "group_size is 'None'; expected a positive",
    ),
    "packed: words of uint8": (
        packed(**{"a.weight_packed": np.zeros((8, 8), np.uint8)}),
        "has dtype uint8; expected int32",
    ),
    "packed: no zero points": (
        having(packed(), f"{WEIGHTS}/symmetric", False),
        "no weight_zero_point beside it",
    ),
    "packed: unpacked zero points": (
        having(
            packed(**{"a.weight_zero_point": np.zeros((8, 2), np.int8)}),
            f"{WEIGHTS}/symmetric",
            False,
        ),
        "is int8[8, 2]; 8 rows of zero points of 4 bits are int32[1, 2]",
    ),
    "packed: a group that is not there": (
        packed(**{"a.weight_g_idx": np.int32([0] * 8 + [2] * 8)}),
        "groups 0 to 2",
    ),
    "packed: a group too large": (
        packed(**{"a.weight_g_idx": np.int32([0] * 9 + [1] * 7)}),
        "has groups of [9 7] numbers; expected [8 8]",
    ),
    "packed: groups of other columns": (
        packed(**{"a.weight_g_idx": np.zeros(8, np.int32)}),
        "the group of each of 16 columns",
    ),
    "packed: a kind without scheme": (
        having(packed(), "config_groups/group_0/targets", ["re:.*b$"]),
        "no group of quantization_config.config_groups has it among its targets",
    ),
    "packed: ignored": (having(packed(), "ignore", ["re:a.*"]), "has it under ignore"),
    "packed: no groups": (having(packed(), "config_groups", None), "a mapping of groups"),
    "packed: groups of a list": (having(packed(), "config_groups", [1]), "expected a mapping"),
    "packed: a preset": (having(packed(), "config_groups/W4A16", ["Linear"]), "written out"),
    "packed: another format": (
        having(packed(), "format", "naive-quantized"),
        "'a.weight_packed' is not stored as naive-quantized",
    ),
    "packed: floats as another format": (
        having(packed(), "format", "float-quantized"),
        "type is 'int'; expected float",
    ),
    "packed: sparse": (
        having(packed(), "sparsity_config", {"format": "sparse-24-bitmask"}),
        "sparsity_config of format 'sparse-24-bitmask' is not read",
    ),
    "packed: marlin": (having(packed(), "format", "marlin-24"), "format 'marlin-24'"),
    "packed: six bits of floats": (
        having(packed(), "format", "mxfp6-pack-quantized"),
        "format 'mxfp6-pack-quantized' of 'group_0' is not read; read are: pack-quantized",
    ),
    "packed: turned": (
        having(packed(), "transform_config", {"config_groups": {}}),
        "transform_config is not read",
    ),
    "packed: twice": (packed(**{"a.weight": np.zeros((8, 16), np.int8)}), "is there twice"),
    "plain: bfloat16": (plain(np.ones((4, 4), jnp.bfloat16)), "has dtype bfloat16"),
    "plain: int8 as float": (plain(np.ones((4, 4), np.int8)), "has dtype int8"),
    "plain: block of a word": (
        plain(np.ones((4, 4), E4M3), strategy="block", block_structure="xx"),
        "block_structure is '[]'; expected two",
    ),
    "plain: no block": (plain(np.ones((4, 4), E4M3), strategy="block"), "two positive whole"),
    "plain: unknown strategy": (plain(np.ones((4, 4), E4M3), strategy="row"), "tensor or channel"),
    "nvfp4: no scale of all": (
        without(nvfp4(), "a.weight_global_scale"),
        "no 'weight_global_scale' beside it",
    ),
    "nvfp4: scales of floats": (
        nvfp4(**{"a.weight_scale": np.ones((8, 2), np.float32)}),
        "the scales of NVFP4 are float8_e4m3fn",
    ),
    "nvfp4: many scales of all": (
        nvfp4(**{"a.weight_global_scale": np.ones(8, np.float32)}),
        "expected one float32",
    ),
    "nvfp4: too few groups": (nvfp4(**{"a.weight_scale": np.ones((8, 1), E4M3)}), "has (8, 2)"),
    # MXFP4
    "mxfp4: no scales": (
        without(mxfp4(), "x.gate_up_proj_scales"),
        "no 'x.gate_up_proj_scales' beside it",
    ),
    "mxfp4: no blocks": (without(mxfp4(), "x.gate_up_proj_blocks"), "its _blocks are missing"),
    "mxfp4: blocks of 32 bytes": (
        mxfp4(**{"x.gate_up_proj_blocks": np.zeros((2, 6, 3, 32), np.uint8)}),
        "expected (experts, rows, groups, 16)",
    ),
    "mxfp4: other groups": (
        mxfp4(**{"x.gate_up_proj_scales": np.zeros((2, 6, 2), np.uint8)}),
        "has shape (2, 6, 2); 'x.gate_up_proj_blocks' needs (2, 6, 3)",
    ),
    "mxfp4: scales of floats": (
        mxfp4(**{"x.gate_up_proj_scales": np.ones((2, 6, 3), np.float32)}),
        "has dtype float32; expected uint8",
    ),
    "modelopt: another algorithm": (
        ({}, {"quant_method": "modelopt", "quant_algo": "W4A8_AWQ"}),
        "quant_algo 'W4A8_AWQ' of modelopt is not read; read are: FP8, NVFP4",
    ),
}


@pytest.mark.parametrize("name", UNFIT)
def test_is_refused_before_weights_are_read(name):
    (tensors, config), expected = UNFIT[name]
    with pytest.raises(CheckpointError, match=re.escape(expected)) as raised:
        read_quantized(source_of(tensors), config)
    assert str(raised.value).startswith("state_dict")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 0.0, -1.0])
@pytest.mark.parametrize("kind", ["fp8", "packed", "nvfp4"])
def test_scales_that_are_no_positive_numbers_are_refused_where_they_are_read(kind, bad):
    if kind == "nvfp4":
        tensors, config = nvfp4(**{"a.weight_global_scale": np.float32([bad])})
        where = "'a.weight_global_scale' holds "
    else:
        tensors, config = {"fp8": fp8, "packed": packed}[kind]()
        name = "a.weight_scale_inv" if kind == "fp8" else "a.weight_scale"
        tensors[name] = tensors[name].copy()
        tensors[name][1, 1] = bad
        where = f"{name!r} holds {np.float32(bad)} at (1, 1), and a scale is a positive number"
    found = read_quantized(source_of(tensors), config)
    with pytest.raises(CheckpointError, match=re.escape(where)):
        found["a.weight"].read()


@pytest.mark.parametrize("bad", [12, -1, 3])
def test_an_order_that_is_none_is_refused_where_it_is_read(bad):
    order = np.arange(12, dtype=np.int32)
    read = read_quantized(source_of(ours(**{"a.weight.perm": order[::-1]})[0]), ours()[1])
    assert np.array_equal(read["a.weight"].read(), np.ones((8, 12)))
    order[5] = bad
    source = read_quantized(source_of(ours(**{"a.weight.perm": order})[0]), ours()[1])
    with pytest.raises(CheckpointError, match="'a.weight.perm' is no order of 12 numbers"):
        source["a.weight"].read()


@pytest.mark.parametrize("made", [mxfp4, nvfp4])
def test_scales_of_8_bits_that_are_no_numbers_are_refused(made):
    tensors, config = made()
    name = "x.gate_up_proj_scales" if made is mxfp4 else "a.weight_scale"
    tensors[name].view(np.uint8).flat[3] = 255
    found = read_quantized(source_of(tensors), config)
    (weight,) = found.tensors.values()
    with pytest.raises(CheckpointError, match="nan"):
        weight.read()


def test_a_cache_that_is_quantised_is_said_to_change_nothing():
    tensors, config = packed(**{"a.k_scale": np.float32(2), "b.output_scale": np.float32(2)})
    with pytest.warns(UserWarning, match="kv_cache_scheme changes nothing here"):
        found = read_quantized(source_of(tensors), config | {"kv_cache_scheme": {"num_bits": 8}})
    assert found.tensors.keys() == {"a.weight"}
    assert set(found.passed_over) == {"a.k_scale", "b.output_scale"}


def test_dense_sparsity_and_null_settings_are_nothing():
    tensors, config = packed()
    config |= {"sparsity_config": {"format": "dense"}, "transform_config": {}, "ignore": None}
    assert isinstance(read_quantized(source_of(tensors), config)["a.weight"], PackedTensor)


def test_the_most_exact_target_decides():
    """A module's name, else the first pattern by the alphabet, else the classes, of which the
    first is taken that fits."""
    tensors, config = packed()
    scale = np.ones((8, 1), np.float32)
    tensors = {
        f"{module}.{name.removeprefix('a.')}": value
        for module in ("m.up", "m.down", "gate", "emb")
        for name, value in tensors.items()
    }
    tensors |= {f"{module}.weight_scale": scale for module in ("m.up", "emb", "m.down")}
    groups = config["config_groups"]
    by_row = {"num_bits": 4, "type": "int", "strategy": "channel"}
    groups["by_name"] = {"targets": ["m.up"], "weights": by_row}
    groups["by_pattern"] = {"targets": ["re:.*down$"], "weights": by_row}
    groups["by_class"] = {"targets": ["Embedding"], "weights": by_row}
    found = read_quantized(source_of(tensors), config)
    weights = found.tensors.items()
    blocks = {name: x.form.block for name, x in weights if isinstance(x, PackedTensor)}
    assert blocks == {
        "m.up.weight": (1, -1),
        "m.down.weight": (1, -1),
        "gate.weight": (1, 8),
        "emb.weight": (1, -1),
    }


@pytest.mark.parametrize(
    "text",
    ["(a+)+$", "((a)*)*b", "(a|b*)*c", "a{1,9}" * 50, ".*" * 30 + "x", "(", "x" * 5000, "[" * 3000],
)
def test_patterns_that_could_take_forever_are_not_tried(text):
    start = time.process_time()
    with pytest.raises(CheckpointError, match="pattern"):
        file_patterns([f"re:{text}"], ["a" * 300], "config.json")
    assert time.process_time() - start < 2


@pytest.mark.parametrize(
    "text",
    [r".*lm_head", r"model\.layers\.(0|1|2)\..*", r".*self_attn\.(q|k|v|o)_proj$", r"[a-z*]+"],
)
def test_patterns_of_real_configurations_are_taken(text):
    assert file_patterns([f"re:{text}", "Linear"], ["model.layers.30.mlp.experts.7.up"], "").keys()


def test_memory_of_a_config_that_lies_is_not_taken():
    """Sizes out of the configuration are compared before anything is made of them."""
    tensors, config = having(packed(), f"{WEIGHTS}/group_size", 1 << 24)
    with pytest.raises(CheckpointError, match="check the sizes of blocks"):
        read_quantized(source_of(tensors), config)


NASTY = [None, True, 0, -1, 10**30, 0.5, "", "re:(a+)+", [], [None], [[]], {}, {"a": 1}, "x" * 500]


@pytest.mark.parametrize("made", [ours, fp8, packed, nvfp4, mxfp4])
def test_configurations_of_any_shape_are_read_or_refused(made):
    """Any value in the place of any other, and in place of keys that are not there: a source, a
    warning, or CheckpointError, and nothing else."""
    tensors, config = made()
    keys = ["scale_fmt", "sparsity_config", "ignore", "format", "expert_dtype", "ignored_layers"]
    config |= dict.fromkeys(keys[:1], "float")
    paths = [*_paths(config), *keys, "weight_block_size", "modules_to_not_convert"]
    if made is packed:
        weights = ["symmetric", "block_structure", "strategy", "group_size"]
        paths += ["config_groups/group_0/format", *(f"{WEIGHTS}/{key}" for key in weights)]
    source = source_of(tensors)
    for path in paths:
        for value in NASTY:
            _, changed = having((tensors, config), path, value)
            try:
                read_quantized(source, changed)
            except CheckpointError as error:
                assert "state_dict" in str(error)


def _paths(config, front=""):
    for key, value in config.items():
        yield front + key
        if isinstance(value, dict):
            yield from _paths(value, f"{front}{key}/")
