"""Attention against its formula in NumPy, by every path, and the rules of masks."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _modes import CONTEXTS
from _turns import in_turn, some_of

from flaxmodels import blocks
from flaxmodels import sharding as fs
from flaxmodels.blocks import (
    AttentionMask,
    Causal,
    Chunk,
    SameSegment,
    TwoWayWindow,
    Window,
)
from flaxmodels.blocks.attention.alibi import alibi_slopes
from flaxmodels.blocks.attention.blocked import _visits, blocked, is_long
from flaxmodels.blocks.attention.eager_attention import Scoring, formula

rng = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def same_numbers_in_any_order():
    global rng
    rng = np.random.default_rng(0)


def normal(*shape):
    return rng.standard_normal(shape, dtype=np.float32)


SOME = rng.random((2, 1, 5, 7)) < 0.6
SOME[..., 0] = True


HEADS = {"all": (4, 4), "grouped": (4, 2), "one": (4, 1)}
MASKS = {"n": None, "f": SOME, "b": SOME[:1], "k": SOME[:, :, :1]}
THREE = itertools.product([False, True], enumerate(MASKS), enumerate(HEADS))


@pytest.mark.parametrize(
    ("causal", "mask", "heads"),
    [  # by default each two of the three values meet
        pytest.param(
            *(causal, MASKS[mask], HEADS[heads]),
            id=f"{causal}-{mask}-{heads}",
            marks=pytest.mark.soak if (causal + i + j) % 2 else (),
        )
        for causal, (i, mask), (j, heads) in THREE
    ],
)
def test_both_formulas_are_softmax_attention(heads, mask, causal):
    n, k_heads = heads
    q, k, v = normal(2, 5, n, 8), normal(2, 7, k_heads, 8), normal(2, 7, k_heads, 8)
    keys, values = (np.repeat(x, n // k_heads, axis=2) for x in (k, v))
    logits = np.einsum("btnh,bsnh->bnts", q, keys) * 0.3
    seen = np.ones((2, 1, 5, 7), bool) if mask is None else np.broadcast_to(mask, (2, 1, 5, 7))
    if causal:
        seen = seen & np.tri(5, 7, dtype=bool)
    weights = np.where(seen, np.exp(logits), 0)
    weights = weights / weights.sum(-1, keepdims=True)
    expected = np.einsum("bnts,bsnh->btnh", weights, values)
    by_each_path(q, k, v, AttentionMask(Causal() if causal else None, mask))(expected, weights)


def by_each_path(q, k, v, mask, **asked):
    """Attends by each path, in one program; returns what compares outputs and weights with those
    expected, in rows that see anything."""

    @jax.jit
    def run(q, k, v, mask, asked):
        attend = functools.partial(blocks.attend, q, k, v, mask, scale=0.3, softcap=softcap)
        outs = [attend(implementation=name, **asked) for name in ("eager", "sdpa")]
        return [*outs, attend(need_weights=True, **asked)]

    softcap = asked.pop("softcap", None)
    outs = run(q, k, v, mask, asked)
    assert outs[0][1] is None is outs[1][1]

    def check(expected, weights, rows=...):
        for out, _ in outs:
            np.testing.assert_allclose(np.asarray(out)[rows], expected[rows], atol=1e-5)
        got, wanted = (np.moveaxis(np.asarray(x), 2, 1)[rows] for x in (outs[2][1], weights))
        np.testing.assert_allclose(got, wanted, atol=1e-6)

    return check


@in_turn(
    *("dtype", [jnp.float32, jnp.float16, jnp.bfloat16]),
    *("implementation", ["eager", "sdpa"]),
    ids=(["float32", "float16", "bfloat16"], None),
)
def test_a_query_that_sees_nothing_gives_finite_values_and_gradients(implementation, dtype):
    q, k, v = (normal(1, 3, 2, 8).astype(dtype) for _ in range(3))
    mask = AttentionMask(tokens=np.array([[[[False] * 3, [True] * 3, [False] * 3]]]))

    @jax.jit
    @functools.partial(jax.grad, argnums=(0, 1, 2), has_aux=True)
    def loss(q, k, v):
        out, _ = blocks.attend(q, k, v, mask, scale=0.3, implementation=implementation)
        return jnp.sum(out.astype(jnp.float32) ** 2), out

    gradients, out = loss(q, k, v)
    assert out.dtype == dtype
    for array in (out, *gradients):
        assert np.isfinite(np.asarray(array, np.float32)).all()
    np.testing.assert_array_equal(gradients[0][0, 0], 0)


def test_dropped_weights_are_scaled_up_and_need_a_key():
    q, k = normal(1, 4, 2, 8), normal(1, 400, 2, 8)
    ones = np.ones_like(k)
    attend = lambda key: blocks.attend(  # noqa: E731
        q, k, ones, AttentionMask(), scale=0.1, dropout=0.5, dropout_key=key, need_weights=True
    )
    out, weights = attend(jax.random.key(0))
    assert 0.3 < np.mean(np.asarray(weights) == 0) < 0.7
    np.testing.assert_allclose(out, 1.0, atol=0.3)
    np.testing.assert_allclose(attend(None)[0], 1.0, atol=1e-5)


def test_attention_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="'fast'.*eager, sdpa, flash"):
        blocks.check_attention("fast")
    if jax.default_backend() != "gpu":
        with pytest.raises(ValueError, match="'flash'.*GPU.*'cpu'.*'sdpa'"):
            blocks.check_attention("flash")


def test_what_does_not_fit_is_refused():
    q, mask = normal(1, 3, 2, 4), AttentionMask()
    for k, v, options, said in (
        (q[:, :2], q, {}, r"k and v have shapes .*expected \[B, T, N, H\]"),
        (q[..., :3], q, {}, "with N a multiple of K"),
        (*[normal(1, 3, 3, 4)] * 2, {}, "with N a multiple of K"),
        (q[0], q[0], {}, "q, k and v have shapes"),
        (q, q, {"mask": np.ones((1, 1, 3, 3), bool)}, "mask is a ndarray; give AttentionMask"),
        (q, q, {"dropout": 1.5}, "dropout is 1.5; expected a rate from 0 to 1"),
    ):
        with pytest.raises((TypeError, ValueError), match=said):
            blocks.attend(q, k, v, **{"mask": mask, "scale": 1.0, **options})


@pytest.mark.gpu
@pytest.mark.parametrize("mask", [None, SOME[:, :, :1, :5]], ids=["full", "padded"])
def test_flash_agrees_with_the_formula(mask):
    q, k, v = (normal(2, 5, 4, 64).astype(jnp.bfloat16) for _ in range(3))
    mask = AttentionMask(Causal(), mask)
    flash, _ = blocks.attend(q, k, v, mask, scale=0.1, implementation="flash")
    plain, _ = blocks.attend(q, k, v, mask, scale=0.1, implementation="eager")
    np.testing.assert_allclose(*(np.asarray(x, np.float32) for x in (flash, plain)), atol=2e-2)
    with pytest.raises(ValueError, match="bfloat16 or float16.*float32"):
        q, k, v = (x.astype(jnp.float32) for x in (q, k, v))
        blocks.attend(q, k, v, mask, scale=0.1, implementation="flash")


# --- masks ---


def test_masks_of_tokens():
    tokens = np.array([[0, 1, 1], [1, 1, 1]])
    assert blocks.token_mask(None, 3) is None
    np.testing.assert_array_equal(blocks.token_mask(tokens, 3), (tokens == 1)[:, None, None, :])
    pairs = rng.random((2, 3, 3)) < 0.5
    np.testing.assert_array_equal(blocks.token_mask(pairs, 3), pairs[:, None])
    for shape in [(2, 4), (2, 3, 4), (3,), (2, 1, 3, 3)]:
        with pytest.raises(ValueError, match=r"expected \[B, 3\]"):
            blocks.token_mask(np.ones(shape), 3)


def test_a_mask_over_slots_sees_what_is_filled_and_not_later():
    slots = np.array([[False, True, True, True, False]])
    mask = AttentionMask(Causal(), slots[:, None, None], queries=np.array([2, 3], np.int32))
    np.testing.assert_array_equal(mask.array(2, 5)[0, 0], [[0, 1, 1, 0, 0], [0, 1, 1, 1, 0]])


# --- rules ---

PLACES = np.arange(6)
QUERY, KEY = PLACES[:, None], PLACES[None]
SEGMENTS = np.array([[0, 0, 1, 1, 1, -1], [0, 1, 1, 1, 2, 2]])
STARTS = np.array([0, 1], np.int32)
IN_SEGMENT = (SEGMENTS[:, :, None] == SEGMENTS[:, None]) & (SEGMENTS >= 0)[:, :, None]
CHUNKS = (PLACES[None] - STARTS[:, None]) // 2
RULES = {
    "causal": (Causal(), KEY <= QUERY),
    "window": (Causal() & Window(2), (KEY <= QUERY) & (KEY > QUERY - 2)),
    "two ways": (TwoWayWindow(2), abs(QUERY - KEY) <= 2),
    "chunks": (Chunk(4), QUERY // 4 == KEY // 4),
    "chunks of rows": (Chunk(2, STARTS), CHUNKS[:, :, None] == CHUNKS[:, None]),
    "segments": (SameSegment(SEGMENTS), IN_SEGMENT),
    "packed": (SameSegment(SEGMENTS) & Causal(), IN_SEGMENT & (KEY <= QUERY)),
    "images": (Causal() | SameSegment(SEGMENTS), IN_SEGMENT | (KEY <= QUERY)),
    "both": ((Causal() | TwoWayWindow(1)) & Window(3), (KEY <= QUERY + 1) & (KEY > QUERY - 3)),
}


@pytest.mark.parametrize("name", RULES)
def test_a_rule_allows_what_it_says_at_any_places(name):
    rule, expected = RULES[name]
    expected = np.broadcast_to(expected, (2, 6, 6))[:, None]
    made = AttentionMask(rule).array(6, 6)
    np.testing.assert_array_equal(np.broadcast_to(made, expected.shape), expected)
    queries, keys = np.array([4, 1], np.int32), np.array([3, -1, 1, 5], np.int32)
    made = jax.jit(lambda mask: mask.array(2, 4))(AttentionMask(rule, None, queries, keys))
    some = expected[:, :, queries][:, :, :, keys] & (keys >= 0)
    np.testing.assert_array_equal(np.broadcast_to(made, some.shape), some)
    behind, ahead = rule.reach
    distance = np.where(expected[:, 0], QUERY - KEY, 0)
    assert behind is None or distance.max() <= behind
    assert ahead is None or distance.min() >= -ahead


@pytest.mark.parametrize(
    ("rule", "reach"),
    [
        (Causal() & Window(3), (2, 0)),
        (Causal() | TwoWayWindow(3), (None, 3)),
        (TwoWayWindow(3) | Window(2) & TwoWayWindow(5), (3, 5)),
        (Chunk(4) & Causal(), (3, 0)),
        (SameSegment(SEGMENTS), (None, None)),
    ],
)
def test_how_far_a_rule_reaches(rule, reach):
    assert rule.reach == reach


# --- all that may be asked of attention ---


def expected_attention(q, k, v, seen, *, scale, bias=0.0, sinks=None, softcap=None):
    """The formula in float64: the output [B, T, N, Hv], and the weights [B, N, T, S]."""
    q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
    k, v = (np.repeat(x, q.shape[2] // k.shape[2], axis=2) for x in (k, v))
    logits = np.einsum("btnh,bsnh->bnts", q, k) * scale
    if softcap is not None:
        logits = softcap * np.tanh(logits / softcap)
    powers = np.where(seen, np.exp(logits + bias), 0)
    total = powers.sum(-1, keepdims=True)
    if sinks is not None:
        total = total + np.exp(np.asarray(sinks, np.float64))[:, None, None]
    weights = powers / np.where(total == 0, 1, total)
    return np.einsum("bnts,bsnh->btnh", weights, v), weights


ASKED = {
    "nothing": {},
    "bias": {"bias": normal(1, 4, 6, 6)},
    "a bias of keys": {"bias": normal(2, 4, 1, 6)},
    "sinks": {"sinks": normal(4)},
    "softcap": {"softcap": 0.7},
    "all": {"bias": normal(2, 4, 1, 6), "sinks": normal(4), "softcap": 0.7},
}


@in_turn("asked", [*ASKED], "width", [8, 3, 12])
def test_every_path_gives_what_is_asked(asked, width, thorough):
    q, k, v = normal(2, 6, 4, 8), normal(2, 6, 2, 8), normal(2, 6, 2, width)
    tokens = np.ones((2, 1, 1, 6), bool)
    tokens[0, ..., 0] = False
    rules = [RULES["window"], RULES["images"], (None, True)]
    turn = [*ASKED].index(asked) // 2  # no rule stands with one width
    for rule, seen in rules if thorough else rules[turn : turn + 1]:
        seen = np.broadcast_to(seen, (2, 6, 6))[:, None] & tokens
        expected = expected_attention(q, k, v, seen, scale=0.3, **ASKED[asked])
        check = by_each_path(q, k, v, AttentionMask(rule, tokens), **ASKED[asked])
        check(*expected, rows=seen.any(-1)[:, 0])


# --- in blocks ---


def in_blocks(q, k, v, mask, *, scale=0.3, block=(3, 4), **asked):
    return blocked(q, k, v, mask, Scoring(scale, **asked), block=block)


PADDING = np.ones((2, 1, 1, 6), bool)
PADDING[0, ..., 0] = False
PAIRS = rng.random((1, 1, 6, 6)) < 0.8
PLACED = {
    "in order": (None, None),
    "in a cache": (np.arange(2, 8, dtype=np.int32), None),
    "in a ring": (np.arange(6, 12, dtype=np.int32), np.array([12, 7, 8, -1, 10, 11], np.int32)),
}


TOKENS = {"all": None, "padding": PADDING, "pairs": PAIRS}
PRODUCT = list(itertools.product([None, *RULES], PLACED, TOKENS))


def check_blocks(rule, placed, tokens):
    q, k, v = normal(2, 6, 4, 8), normal(2, 6, 2, 8), normal(2, 6, 2, 5)
    rule = None if rule is None else RULES[rule][0]
    mask = AttentionMask(rule, TOKENS[tokens], *PLACED[placed])
    seen = mask.array(6, 6)
    seen = np.broadcast_to(True if seen is None else seen, (2, 1, 6, 6))
    expected, _ = expected_attention(q, k, v, seen, scale=0.3)
    rows = seen.any(-1)[:, 0]
    out = np.asarray(jax.jit(functools.partial(in_blocks, block=(4, 2)))(q, k, v, mask))
    np.testing.assert_allclose(out[rows], expected[rows], atol=1e-5)
    assert np.isfinite(out).all()


@pytest.mark.parametrize(("rule", "placed", "tokens"), PRODUCT[::11])
def test_blocks_see_what_the_mask_says(rule, placed, tokens):
    check_blocks(rule, placed, tokens)


@pytest.mark.soak
@pytest.mark.parametrize(("rule", "placed", "tokens"), PRODUCT)
def test_blocks_see_what_any_mask_says(rule, placed, tokens):
    check_blocks(rule, placed, tokens)


def test_blocks_that_a_rule_rules_out_are_not_listed():
    """Of 8 queries and keys, in blocks of 2."""
    every, none = np.ones((4, 4), bool), np.zeros(4, int)
    places = np.arange(8, dtype=np.int32)
    for mask, first, visited in [
        (AttentionMask(), none, every),
        (AttentionMask(Causal()), none, np.tri(4, dtype=bool)),
        (AttentionMask(Causal() & Window(2)), [0, 0, 1, 2], [[1, 0], [1, 1], [1, 1], [1, 1]]),
        (
            AttentionMask(TwoWayWindow(1)),
            [0, 0, 1, 1],
            [[1, 1, 0], [1, 1, 1], [1, 1, 1], [0, 1, 1]],
        ),
        (AttentionMask(Causal(), queries=places + 2), none, np.tri(4, k=1, dtype=bool)),
    ]:
        got = _visits(mask, 8, 8, (2, 2))
        np.testing.assert_array_equal(got[0], first)
        np.testing.assert_array_equal(got[1], visited)


@some_of("asked", [*ASKED], "nothing", "a bias of keys", "all")
def test_blocks_have_the_gradients_of_the_formula(asked):
    asked = dict(ASKED[asked])
    softcap = asked.pop("softcap", None)
    arrays = {"q": normal(2, 6, 4, 8), "k": normal(2, 6, 2, 8), "v": normal(2, 6, 2, 5), **asked}
    weights = normal(2, 6, 4, 5)
    mask = AttentionMask(Causal() & Window(3), PADDING)  # row 0's first query sees nothing

    def by_formula(q, k, v, **asked):
        return formula(q, k, v, mask.array(6, 6), Scoring(0.3, softcap, **asked))[0]

    def by_blocks(q, k, v, **asked):
        return in_blocks(q, k, v, mask, softcap=softcap, **asked)

    weights[0, 0] = 0

    @jax.jit
    def run(arrays):
        both = [jax.vjp(lambda x, f=f: f(**x), arrays) for f in (by_formula, by_blocks)]
        return [(out, back(weights)[0]) for out, back in both]

    outs, gradients = zip(*run(arrays), strict=True)
    np.testing.assert_allclose(*(out * (weights != 0) for out in outs), atol=1e-5)
    for name, wanted in gradients[0].items():
        assert np.abs(wanted).max() > 1e-3
        np.testing.assert_allclose(gradients[1][name], wanted, atol=1e-5, err_msg=name)


def test_blocks_under_transforms():
    q, k, v = normal(3, 2, 6, 4, 8), normal(3, 2, 6, 2, 8), normal(3, 2, 6, 2, 8)
    mask = AttentionMask(Causal() & Window(3))
    f = lambda q, k, v: in_blocks(q, k, v, mask)  # noqa: E731
    one = jax.jit(f)
    expected = np.stack([one(*row) for row in zip(q, k, v, strict=True)])
    mesh = fs.make_mesh(data=3, devices=jax.devices()[:3])
    spec = jax.sharding.PartitionSpec("data")
    split = jax.shard_map(jax.vmap(f), mesh=mesh, in_specs=spec, out_specs=spec)

    @jax.jit
    def on_one(q, k, v):
        scanned = jax.lax.scan(lambda _, row: (None, f(*row)), None, (q, k, v))[1]
        wanted = jax.vmap(jax.grad(lambda *row: f(*row).sum(), argnums=2))(q, k, v)
        _, tangent = jax.jvp(lambda v: f(q[0], k[0], v), (v[0],), (v[0],))
        return jax.vmap(f)(q, k, v), scanned, tangent, wanted

    @jax.jit
    def on_three(q, k, v):
        return split(q, k, v), jax.grad(lambda v: split(q, k, v).sum())(v)

    mapped, scanned, tangent, wanted = on_one(q, k, v)
    out, backward = on_three(q, k, v)
    for got in (mapped, scanned, out):
        np.testing.assert_allclose(got, expected, atol=1e-6)
    np.testing.assert_allclose(backward, wanted, atol=1e-5)
    np.testing.assert_allclose(tangent, expected[0], atol=1e-5)  # it is linear in v
    mesh = fs.make_mesh(data=3, tensor=2, devices=jax.devices()[:6])
    spec = jax.NamedSharding(mesh, jax.P("data", None, None, "tensor"))
    auto = jax.jit(jax.vmap(f))(*jax.device_put((q, k, v), spec))
    np.testing.assert_allclose(auto, expected, atol=1e-6)


@some_of("mode", [*CONTEXTS], "x64", "debug_nans", "disable_jit", "auto mesh", "explicit mesh")
def test_blocks_in_all_modes(mode):
    q, k, v = normal(2, 6, 4, 8), normal(2, 6, 2, 8), normal(2, 6, 2, 8)
    mask = AttentionMask(Causal() & Window(3), PADDING)
    asked = ASKED["all"]
    expected = in_blocks(q, k, v, mask, **asked)
    with CONTEXTS[mode]():
        out = in_blocks(*map(jnp.asarray, (q, k, v)), mask, **asked)
        np.testing.assert_allclose(out, expected, atol=1e-5)


@pytest.mark.parametrize(("dtype", "atol"), [("float64", 1e-12), ("bfloat16", 2e-2)])
def test_precision_follows_the_inputs(dtype, atol):
    with jax.enable_x64(dtype == "float64"):
        q, k, v = (jnp.asarray(normal(2, 6, 4, 8), dtype) for _ in range(3))
        mask = AttentionMask(Causal())
        seen = np.broadcast_to(RULES["causal"][1], (2, 1, 6, 6))
        expected, _ = expected_attention(q, k, v, seen, scale=0.3)

        @jax.jit
        def outs(q, k, v):
            attend = functools.partial(blocks.attend, q, k, v, mask, scale=0.3)
            return in_blocks(q, k, v, mask), attend()[0], attend(implementation="eager")[0]

        for out in outs(q, k, v):
            assert out.dtype == dtype
            np.testing.assert_allclose(np.asarray(out, np.float64), expected, atol=atol)


@pytest.mark.optimized
@pytest.mark.skipif(jax.default_backend() != "cpu", reason="elsewhere 2048 tokens are not long")
@pytest.mark.parametrize("softcap", [None, pytest.param(5.0, marks=pytest.mark.soak)])
def test_long_inputs_never_hold_all_pairs(softcap):
    length = 2048
    q = jax.ShapeDtypeStruct((1, length, 2, 8), jnp.float32)
    mask = AttentionMask(Causal(), jax.ShapeDtypeStruct((1, 1, 1, length), bool))

    def loss(q, k, v, mask):
        out, _ = blocks.attend(q, k, v, mask, scale=0.3, softcap=softcap)
        return (out**2).sum()

    program = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2))).lower(q, q, q, mask).compile()
    assert program.memory_analysis().temp_size_in_bytes < 4 * length**2


@pytest.mark.parametrize(
    ("queries", "keys", "long"),
    [(1024, 1024, True), (1023, 1024, False), (64, 16384, True), (1, 1 << 24, False)],
)
@pytest.mark.skipif(jax.default_backend() != "cpu", reason="it depends on the backend")
def test_what_is_long(queries, keys, long):
    assert is_long(queries, keys) is long


def test_long_inputs_and_short_ones_agree(monkeypatch):
    q, k, v = normal(2, 6, 4, 8), normal(2, 6, 2, 8), normal(2, 6, 2, 5)
    mask = AttentionMask(Causal() & Window(3))
    called = []

    def in_few_blocks(*args):
        called.append(None)
        return blocked(*args, block=(3, 3))

    attend = functools.partial(blocks.attend, q, k, v, mask, scale=0.3)
    forms = [*ASKED.values()]
    folder = "flaxmodels.blocks.attention.dot_product_attention"
    short = jax.jit(lambda: [attend(**asked)[0] for asked in forms])()
    monkeypatch.setattr(f"{folder}.is_long", lambda *_: True)
    monkeypatch.setattr(f"{folder}.blocked", in_few_blocks)
    long = jax.jit(lambda: [attend(**asked)[0] for asked in forms])()
    for asked in forms:
        for how in ({"implementation": "eager"}, {"need_weights": True}):
            jax.eval_shape(functools.partial(attend, **how, **asked))
    for asked, got, wanted in zip(ASKED, long, short, strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-5, err_msg=asked)
    assert len(called) == len(ASKED)  # "eager" and weights are left to the formula


@pytest.mark.gpu
@pytest.mark.parametrize("asked", ["nothing", "bias", "sinks"])
@pytest.mark.parametrize("rule", ["causal", "window", "images"])
def test_flash_gives_what_is_asked(rule, asked):
    q, k = (jnp.asarray(normal(2, 6, n, 64), jnp.bfloat16) for n in (4, 2))
    v = jnp.asarray(normal(2, 6, 2, 32), jnp.bfloat16)
    mask = AttentionMask(RULES[rule][0])

    def run(arrays, implementation):
        q, k, v, asked = arrays
        out, _ = blocks.attend(q, k, v, mask, scale=0.1, implementation=implementation, **asked)
        return (out.astype(jnp.float32) ** 2).sum(), out

    runs = [
        jax.value_and_grad(run, has_aux=True)((q, k, v, ASKED[asked]), implementation)
        for implementation in ("flash", "eager")
    ]
    for flash, plain in zip(*map(jax.tree.leaves, runs), strict=True):
        flash, plain = (np.asarray(x, np.float32) for x in (flash, plain))
        np.testing.assert_allclose(flash, plain, atol=5e-2, rtol=5e-2)


# --- ALiBi ---


def test_slopes_of_alibi():
    np.testing.assert_allclose(alibi_slopes(8), 2.0 ** -np.arange(1, 9))
    more = 2.0 ** -np.array([0.5, 1.5, 2.5, 3.5])
    np.testing.assert_allclose(alibi_slopes(12), [*2.0 ** -np.arange(1, 9), *more], rtol=1e-6)
    np.testing.assert_allclose(alibi_slopes(1), [2.0**-8])


def test_alibi_counts_tokens():
    tokens = np.array([[False, True, True, True], [True, True, True, False]])[:, None, None]
    bias = blocks.alibi(2, tokens, 4)
    expected = (
        np.array([[0, 0, 1, 2], [0, 1, 2, 0]])[:, None, None]
        * 2.0 ** -np.array([4, 8])[None, :, None, None]
    )
    np.testing.assert_allclose(bias, expected)
    np.testing.assert_allclose(blocks.alibi(2, None, 3)[0, :, 0], expected[1, :, 0, :3])


def test_alibi_is_rounded_as_falcon_rounds_it():
    bias = jax.jit(lambda: blocks.alibi(8, None, 260, rounded=jnp.bfloat16))()
    np.testing.assert_array_equal(
        bias[0, 0, 0, [255, 256, 257, 258, 259]] * 2, [255, 256, 256, 258, 260]
    )
