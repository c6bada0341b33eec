"""Presets: equal numbers on eight devices and on one, and the collectives that each costs."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _drawn import host_params_of
from _turns import some_of

import flaxmodels as fm
from flaxmodels import sharding as fs

B, T, V, D, F, N = 8, 16, 64, 32, 64, 8
IDS = np.random.default_rng(0).integers(0, V, (B, T)).astype("int32")

_LLAMA = {
    "vocab_size": V,
    "hidden_size": D,
    "intermediate_size": F,
    "num_hidden_layers": 2,
    "num_attention_heads": N,
    "max_position_embeddings": T,
}
FAMILIES = {
    "bert": (fm.BertForMaskedLM, fm.BertConfig(**_LLAMA, type_vocab_size=2)),
    "gpt2": (
        fm.GPT2LMHeadModel,
        fm.GPT2Config(vocab_size=V, n_embd=D, n_head=N, n_layer=2, n_positions=T),
    ),
    "llama": (fm.LlamaForCausalLM, fm.LlamaConfig(**_LLAMA, num_key_value_heads=N)),
    "gemma3_text": (
        fm.Gemma3ForCausalLM,
        fm.Gemma3TextConfig(**_LLAMA, num_key_value_heads=4, head_dim=4, sliding_window=4),
    ),
    "falcon": (
        fm.FalconForCausalLM,
        fm.FalconConfig(vocab_size=V, hidden_size=D, num_hidden_layers=2, num_attention_heads=N),
    ),
}
MESHES = {
    "replicated": {"data": 8},
    "fsdp": {"fsdp": 8},
    "tensor": {"data": 2, "tensor": 4},
    "fsdp+tensor": {"fsdp": 4, "tensor": 2},
    "expert": {"expert": 4, "tensor": 2},
    "sequence": {"fsdp": 2, "tensor": 4},
}
# Others of Llama are compared where their collectives are counted.
# Windows, and few key-value heads: tests/sharding/test_context_parallel.py.
BY_DEFAULT = {("falcon", "sequence", "scan")}


def model_of(family, how, rules="replicated"):
    cls, config = FAMILIES[family]
    return cls(config, scan_layers=how == "scan", rules=rules)


def step(model):
    """(params, ids) -> (loss, logits), and the gradient of the loss."""

    def loss(params, ids):
        logits = model.apply({"params": params}, ids).logits
        scores = jax.nn.log_softmax(logits)[:, :-1]
        chosen = jnp.take_along_axis(scores, ids[:, 1:, None], axis=-1)
        return -chosen.mean(), logits

    return jax.jit(jax.value_and_grad(loss, has_aux=True))


@functools.cache
def on_one_device(family, how):
    model = model_of(family, how)
    params = host_params_of(model)
    return params, step(model)(params, IDS)


def batch_on(mesh, rules):
    spec = fs.partition_spec(("batch", "length"), (B, T), mesh, rules)
    return jax.sharding.NamedSharding(mesh, spec)


def compare(model, mesh, family, how, program=None):
    """Logits and gradients on the mesh against those of one device; relative to the largest."""
    params, ((_, want), wanted) = on_one_device(family, how)
    placed = jax.device_put(params, fs.shardings(model.abstract_params(), mesh, model.rules))
    ids = jax.device_put(IDS, batch_on(mesh, model.rules))
    (_, logits), gradients = (program or step(model))(placed, ids)
    np.testing.assert_allclose(logits, want, atol=1e-4 * np.abs(want).max())
    for have, one in zip(jax.tree.leaves(gradients), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(have, one, atol=1e-4 * max(1e-3, np.abs(one).max()))


def cases():
    for case in itertools.product(FAMILIES, MESHES, ("loop", "scan")):
        marks = () if case in BY_DEFAULT else pytest.mark.soak
        yield pytest.param(*case, id="-".join(case), marks=marks)


@pytest.mark.parametrize(("family", "preset", "how"), [*cases()])
def test_logits_and_gradients_are_those_of_one_device(family, preset, how):
    compare(model_of(family, how, preset), fs.make_mesh(**MESHES[preset]), family, how)


# --- collectives: {(kind, axes): (how many, bytes on a device)}, at most ---

ACTIVATION = B * T * D * 4  # [B, T, D] in float32
PARAMS = 2 * V * D * 4 + 2 * (4 * D * D + 3 * D * F + 2 * D) * 4 + D * 4
LOSS = 4 * B * T * 4  # its scalars, and maxima and sums of the softmax
IDS_BYTES, SHARD = B * T * 4, D * V * 4
AR, AG, A2A, CP = "all-reduce", "all-gather", "all-to-all", "collective-permute"
TENSOR, FSDP = ("tensor",), ("fsdp",)

LLAMA = {
    "replicated loop": ({"data": 8}, {}, {(AR, ("data",)): (1, PARAMS + LOSS)}),
    # A layer sums twice, and so does its gradient, of q, k and v, or gate and up, each; the
    # embedding sums once, as does the gradient of the head; the rest is the softmax of the loss.
    "tensor loop": (
        {"tensor": 8},
        {(AR, TENSOR): (5, 5 * ACTIVATION)},
        {(AR, TENSOR): (14, 16 * ACTIVATION + LOSS)},
    ),
    "tensor scan": (
        {"tensor": 8},
        {(AR, TENSOR): (3, 3 * ACTIVATION)},
        {(AR, TENSOR): (10, 9 * ACTIVATION + LOSS)},
    ),
    # 7 kernels a layer, the head, and the token ids of the others, each gathered once.
    "fsdp loop": (
        {"fsdp": 8},
        {(AG, FSDP): (16, PARAMS + IDS_BYTES), (A2A, FSDP): (1, ACTIVATION)},
        {(AG, FSDP): (16, PARAMS + IDS_BYTES), (A2A, FSDP): (2, 2 * ACTIVATION)}
        | {(AR, FSDP): (1, PARAMS + LOSS)},
    ),
    "fsdp scan": (
        {"fsdp": 8},
        {(AG, FSDP): (9, PARAMS + IDS_BYTES), (A2A, FSDP): (1, ACTIVATION)},
        {(AG, FSDP): (16, 2 * PARAMS), (A2A, FSDP): (2, 2 * ACTIVATION)}
        | {(AR, FSDP): (2, PARAMS + LOSS)},
    ),
    "fsdp+tensor loop": (
        {"fsdp": 4, "tensor": 2},
        {
            (AG, FSDP): (17, PARAMS // 2 + IDS_BYTES + SHARD),
            (AG, TENSOR): (1, IDS_BYTES),
            (AR, TENSOR): (5, 5 * ACTIVATION // 4),
            (A2A, FSDP): (1, ACTIVATION),
            (CP, ("fsdp", "tensor")): (1, IDS_BYTES),
        },
        {
            (AG, FSDP): (32, PARAMS + IDS_BYTES),
            (AG, TENSOR): (1, IDS_BYTES),
            (AR, TENSOR): (14, 16 * ACTIVATION // 4 + LOSS),
            (AR, FSDP): (2, PARAMS // 2 + SHARD + LOSS),
            (A2A, FSDP): (2, 2 * ACTIVATION),
            (CP, ("fsdp", "tensor")): (1, IDS_BYTES),
        },
    ),
    # Each sum of "tensor" is left where it is added, and gathered where it is multiplied.
    "sequence loop": (
        {"tensor": 8},
        {(AR, TENSOR): (5, 5 * ACTIVATION), (AG, TENSOR): (5, 5 * ACTIVATION)},
        {
            (AR, TENSOR): (15, 16 * ACTIVATION + LOSS + 5 * D * 4),
            (AG, TENSOR): (10, 10 * ACTIVATION),
        },
    ),
    "expert loop": ({"expert": 8}, {}, {(AR, ("expert",)): (1, PARAMS + LOSS)}),
}


def programs_of(model, mesh):
    """A forward pass, and a gradient: what compiles each."""
    template = model.place(model.abstract_params(), mesh).shardings
    params = jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        model.abstract_params(),
        template,
    )
    ids = jax.ShapeDtypeStruct((B, T), jnp.int32, sharding=batch_on(mesh, model.rules))
    forward = jax.jit(lambda params, ids: model.apply({"params": params}, ids).logits)
    return [lambda f=f: f.lower(params, ids).compile() for f in (forward, step(model))]


def check_bounds(found, bounds):
    for (kind, axes), (count, size) in fs.summary(found).items():
        most, bytes_ = bounds.get((kind, axes), (0, 0))
        said = f"{kind} over {axes}: {count} of {size} bytes, at most {most} of {bytes_}"
        assert count <= most and size <= bytes_, said + "".join(f"\n  {one}" for one in found)


@some_of("case", [*LLAMA], "fsdp+tensor loop", "fsdp scan", "sequence loop")
def test_collectives_of_a_gradient(case):
    """And, of a loop, its numbers; of a scan, those of Gemma 3 are compared above."""
    axes, _, bounds = LLAMA[case]
    preset, how = case.split()
    model, mesh = model_of("llama", how, preset), fs.make_mesh(**axes)
    program = programs_of(model, mesh)[1]()
    check_bounds(fs.collectives(program, mesh), bounds)
    if how == "loop":
        compare(model, mesh, "llama", how, program)


@some_of("case", [*LLAMA], "sequence loop")
def test_collectives_of_a_forward_pass(case):
    axes, bounds, _ = LLAMA[case]
    preset, how = case.split()
    model, mesh = model_of("llama", how, preset), fs.make_mesh(**axes)
    found = fs.collectives(programs_of(model, mesh)[0](), mesh)
    check_bounds(found, bounds)
    if bounds:  # and no fewer: a counter that misses some would pass
        (kind, over), (count, _) = next(iter(bounds.items()))
        assert fs.summary(found)[kind, over][0] in (count, count - 1)
    weights = {leaf.shape for leaf in jax.tree.leaves(model.abstract_params())}
    gathered = [one for one in found if one.kind == AG]
    for dtype, shape in itertools.chain.from_iterable(one.shapes for one in gathered):
        parts = {math.prod(w) // n for w in weights for n in (1, 2)}
        is_told = dtype == "s32" or math.prod(shape) == B * T * D  # token ids, or an activation
        assert math.prod(shape) in parts or is_told, f"{dtype}{shape} is gathered"


TEXTS = {
    "%a = f32[8,2]{1,0} all-reduce(%x), replica_groups={{0,1},{2,3}}, to_apply=%add": (
        "all-reduce",
        64,
        ((0, 1), (2, 3)),
        ("tensor",),
        64.0,
    ),
    "%a = (f32[8]{0}, /*index=1*/bf16[4]{0}) all-reduce(%x, %y), replica_groups=[2,2]<=[4]": (
        "all-reduce",
        40,
        ((0, 1), (2, 3)),
        ("tensor",),
        40.0,
    ),
    "%a = (f32[2]{0}, f32[4]{0}) all-gather-start(%x), replica_groups=[2,2]<=[2,2]T(1,0), dim": (
        "all-gather",
        16,
        ((0, 2), (1, 3)),
        ("fsdp",),
        8.0,
    ),
    "%a = (s8[4]{0}, s8[4]{0}, u32[], u32[]) collective-permute-start(%x), "
    "source_target_pairs={{0,3},{3,0}}": (
        "collective-permute",
        4,
        ((0, 3), (3, 0)),
        ("fsdp", "tensor"),
        4.0,
    ),
    "%a = f32[2]{0} reduce-scatter(%x), replica_groups=mesh['a'=2,'b'=2] {'a'}, dimensions={0}": (
        "reduce-scatter",
        8,
        ((0, 2), (1, 3)),
        ("fsdp",),
        8.0,
    ),
    "%a = (s4[8]{0}, s4[8]{0}) all-to-all(%x, %y), replica_groups={}": (
        "all-to-all",
        8,
        ((0, 1, 2, 3),),
        ("fsdp", "tensor"),
        6.0,
    ),
}


@pytest.mark.parametrize("line", TEXTS, ids=range(len(TEXTS)))
def test_collectives_are_read_off_a_text(line):
    mesh = fs.make_mesh(devices=jax.devices()[:4], fsdp=2, tensor=2)
    (found,) = fs.collectives(f"ENTRY %main\n  {line}\n  %b = f32[] add(%a, %a)\n", mesh)
    have = (found.kind, found.nbytes, found.groups, found.axes, found.bytes_sent)
    assert have == TEXTS[line]
    assert found.kind in str(found) and "+".join(found.axes) in str(found)


def test_experts_are_split_over_their_axis():
    """No family has experts yet; the rules are there for a template that has."""
    template = {
        "up": fs.AbstractParam((8, 4, 6), np.float32, axes=("experts", "embed", "mlp")),
        "norm": fs.AbstractParam((4,), np.float32, axes=("norm",)),
    }
    mesh = fs.make_mesh(expert=4, tensor=2)
    placed = fs.report(template, mesh, "expert")
    norm, up = placed.rows
    assert up.spec == jax.sharding.PartitionSpec("expert", None, "tensor")
    assert (up.replication, norm.replication) == (1, 8)
    assert batch_on(mesh, "expert").spec == jax.sharding.PartitionSpec("expert", None)


def test_presets_by_name():
    assert set(fs.PRESETS) == set(MESHES)
    assert fs.as_rules("fsdp+tensor") == fs.DEFAULT_RULES
    assert fs.preset("tensor", tensor="model", data="dp") == fs.renamed(
        fs.PRESETS["tensor"], {"tensor": "model", "data": "dp"}
    )
    assert (
        fm.LlamaForCausalLM(FAMILIES["llama"][1], rules="sequence").rules == fs.PRESETS["sequence"]
    )
    for axes, preset in ((MESHES["tensor"], "replicated"), (MESHES["fsdp+tensor"], "tensor")):
        with pytest.raises(ValueError, match="no rule names the mesh axes"):
            fs.report(model_of("llama", "loop"), fs.make_mesh(**axes), preset)


def test_rules_without_residual_length_take_that_of_length():
    rules = (("length", "tensor"), *fs.DEFAULT_RULES)
    mesh = fs.make_mesh(fsdp=-1, tensor=2)
    x = jax.device_put(jnp.ones((4, 2, 3)), jax.sharding.NamedSharding(mesh, jax.P()))
    axes = ("batch", "residual_length", "hidden")
    specs = [
        jax.jit(lambda x, r=r: fs.constrain(x * 2, axes, r))(x).sharding.spec[1:2]
        for r in (rules, fs.DEFAULT_RULES, "sequence")
    ]
    assert specs == [("tensor",), (), ("tensor",)]


@pytest.mark.parametrize(
    ("more", "split"),
    [
        pytest.param((), "heads", marks=pytest.mark.soak),
        ((("cache_heads", None), ("cache_length", "tensor")), "slots"),
    ],
    ids=["heads", "slots"],
)
def test_a_cache_is_spread_by_axes_of_its_own(more, split):
    params, ((_, want), _) = on_one_device("llama", "loop")
    model = model_of("llama", "loop", (*more, *fs.DEFAULT_RULES))
    mesh = fs.make_mesh(**MESHES["sequence"])
    placed = jax.device_put(params, fs.shardings(model.abstract_params(), mesh, model.rules))

    def run(params, ids):
        return model.apply({"params": params}, ids, cache=model.init_cache(B, T))

    out = jax.jit(run)(placed, jax.device_put(IDS, batch_on(mesh, model.rules)))
    np.testing.assert_allclose(out.logits, want, atol=1e-4 * np.abs(want).max())
    (entry,) = out.cache.entries.values()
    shape = (B // 2, N // 4, T, D // N) if split == "heads" else (B // 2, N, T // 4, D // N)
    for keys in (*entry.keys, *entry.values):
        assert keys.sharding.shard_shape(keys.shape) == shape
