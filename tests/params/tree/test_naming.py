"""Names: the rule between paths and checkpoints, both ways, and a family's exceptions to it."""

import time

import numpy as np
import pytest
from _files import write_safetensors

import flaxmodels as fm
from flaxmodels import params as fp
from flaxmodels import sharding as fs
from flaxmodels.commands.inspect import leaves_of, table
from flaxmodels.params.checkpoint.match import check_backbone
from flaxmodels.params.checkpoint.reconcile import reconcile
from flaxmodels.params.tree.leaf_places import places
from flaxmodels.params.tree.naming import FLAX, TORCH, canonical
from flaxmodels.params.tree.paths import natural

PLAIN = fp.Naming()
GPT2 = fp.Naming(
    stacks=("h",),
    kernels_in_out=("c_attn",),
    flax_kernels_out_in=("c_attn",),
    flax_names=((r"norm/scale$", "norm/weight"),),
    aliases=((r"\.gamma$", ".weight"),),
    ignored=(r"\.masked_bias$",),
)


def placed(path, shape, naming, layout, *lead):
    """The places of one leaf whose first axes are `lead`."""
    axes = (*lead, *[None] * (len(shape) - len(lead)))
    leaf = fs.AbstractParam(shape, np.float32, axes=axes)
    return places({path: leaf}, naming, layout)[path]


@pytest.mark.parametrize(
    ("path", "rank", "naming", "layout", "name", "permutation"),
    [
        ("a/b/kernel", 2, PLAIN, TORCH, "a.b.weight", (1, 0)),
        ("a/b/kernel", 3, PLAIN, TORCH, "a.b.weight", (2, 1, 0)),  # (out, in, w) -> (w, in, out)
        ("a/b/kernel", 4, PLAIN, TORCH, "a.b.weight", (2, 3, 1, 0)),  # -> (h, w, in, out)
        ("a/b/kernel", 1, PLAIN, TORCH, "a.b.weight", (0,)),
        ("kernel", 2, PLAIN, TORCH, "weight", (1, 0)),
        ("a/my_kernel", 2, PLAIN, TORCH, "a.my_kernel", (0, 1)),
        ("a/norm/scale", 1, PLAIN, TORCH, "a.norm.weight", (0,)),
        ("a/embedding", 2, PLAIN, TORCH, "a.weight", (0, 1)),
        ("a/bias", 1, PLAIN, TORCH, "a.bias", (0,)),
        ("a/cls_token", 3, PLAIN, TORCH, "a.cls_token", (0, 1, 2)),
        ("kernel/bias", 1, PLAIN, TORCH, "kernel.bias", (0,)),
        ("h/0/c_attn/kernel", 2, GPT2, TORCH, "h.0.c_attn.weight", (0, 1)),
        ("h/0/c_fc/kernel", 2, GPT2, TORCH, "h.0.c_fc.weight", (1, 0)),
        ("a/b/kernel", 2, PLAIN, FLAX, "a/b/kernel", (0, 1)),
        ("a/b/kernel", 4, PLAIN, FLAX, "a/b/kernel", (0, 1, 2, 3)),
        ("h/0/c_attn/kernel", 2, GPT2, FLAX, "h/0/c_attn/kernel", (1, 0)),
        ("a/norm/scale", 1, GPT2, FLAX, "a/norm/weight", (0,)),
        ("a/norm/scale", 1, PLAIN, FLAX, "a/norm/scale", (0,)),
    ],
)
def test_the_rule(path, rank, naming, layout, name, permutation):
    (place,) = placed(path, tuple(range(2, 2 + rank)), naming, layout)
    assert (place.name, place.permutation, place.index) == (name, permutation, ())


@pytest.mark.parametrize("layout", [TORCH, FLAX])
def test_stacked(layout):
    dot = "." if layout == TORCH else "/"
    found = placed("t/h/x/kernel", (3, 4, 5), fp.Naming(stacks=("h",)), layout, "layers")
    leaf = "weight" if layout == TORCH else "kernel"
    assert [place.name for place in found] == [
        dot.join(["t", "h", str(i), "x", leaf]) for i in range(3)
    ]
    assert [place.index for place in found] == [(0,), (1,), (2,)]
    assert {place.permutation for place in found} == {(1, 0) if layout == TORCH else (0, 1)}
    (first, *_) = placed("h/bias", (3, 4), fp.Naming(stacks=("h",)), layout, "layers")
    assert first.name == f"h{dot}0{dot}bias"


@pytest.mark.parametrize("naming", [PLAIN, fp.Naming(stacks=("layers",))])
def test_stacked_where_no_stack_is(naming):
    with pytest.raises(fp.CheckpointError, match="h/x/kernel: a stacked leaf that is not under"):
        placed("h/x/kernel", (3, 4, 5), naming, TORCH, "layers")


def test_canonical():
    names = ["a.gamma", "b.weight", "b.masked_bias"]
    assert canonical(names, GPT2) == {"a.weight": "a.gamma", "b.weight": "b.weight"}


def test_hostile_S48_aliases_that_clash():
    with pytest.raises(
        fp.CheckpointError, match="'a.gamma' and 'a.weight' both stand for a.weight"
    ):
        canonical(["a.gamma", "a.weight"], GPT2)


def config_of(cls):
    """The least that the class takes."""
    if cls is fm.EncoderDecoderModel:
        decoder = fm.BertConfig(is_decoder=True, add_cross_attention=True)
        return fm.EncoderDecoderConfig(encoder=fm.BertConfig(), decoder=decoder)
    decodes = cls.can_generate() and "is_decoder" in cls.config_class.names()
    needed = {"pad_token_id": 1} if cls.config_class is fm.EsmConfig else {}
    return cls.config_class(**needed, **({"is_decoder": True} if decodes else {}))


def families():
    found = {}
    for cls in (getattr(fm, name) for name in dir(fm)):
        naming = getattr(cls, "naming", None) if isinstance(cls, type) else None
        if isinstance(naming, property):  # it depends on the configuration
            naming = cls(config_of(cls)).naming
        if isinstance(naming, fp.Naming):
            found.setdefault(naming, cls.__name__)
    return sorted(found.items(), key=lambda pair: pair[1])


def test_C23_no_name_takes_long(tmp_path):
    """Every pattern of every family on names made to be slow."""
    assert len(families()) >= 2
    hostile = [
        "a" * 10_000 + "!",
        "layer." * 2_000,
        "h.0." * 2_500 + "x",
        "." * 10_000,
        "0" * 10_000,
    ]
    for naming, family in families():
        start = time.perf_counter()
        canonical(hostile, naming)
        for name in hostile:
            placed(name.replace(".", "/") + "/kernel", (2, 2), naming, TORCH)
            placed(name.replace(".", "/") + "/kernel", (2, 2), naming, FLAX)
        assert time.perf_counter() - start < 1, family


def test_C23_from_a_file(tmp_path):
    tensors = {"a" * 4095 + "!": np.zeros(1, np.float32)}
    path = write_safetensors(tmp_path / "model.safetensors", tensors)
    match = reconcile({}, fp.open_checkpoint(path))
    with pytest.raises(fp.CheckpointError) as caught:
        check_backbone(match)
    assert len(str(caught.value)) < 1000
    path = write_safetensors(tmp_path / "x.safetensors", {"a" * 4097: np.zeros(1, np.float32)})
    with pytest.raises(fp.CheckpointError, match="a name has at most 4096 characters"):
        fp.open_checkpoint(path)


@pytest.mark.parametrize(
    "names",
    [
        ["\u0661", "9" * 4000, "a", "layers.x"],
        ["layers.\u0967", "layers.1", "layers.x", "layers.10", "layers.010"],
        ["0", "00", "", "a0b00", "a00b0", "\u00b2"],
    ],
)
def test_hostile_12_any_names_can_be_sorted(names, tmp_path):
    assert {*sorted(names, key=natural)} == {*names}
    assert sorted(["h.10", "h.9", "h.010", "g.2"], key=natural)[:2] == ["g.2", "h.9"]
    tensors = dict.fromkeys(filter(None, names), np.zeros(1, np.float32))
    path = write_safetensors(tmp_path / "model.safetensors", tensors)
    leaves = leaves_of(path)
    assert {*leaves} == {name.replace(".", "/") for name in tensors}
    assert max(map(len, table(leaves).splitlines())) < 400
