"""Stacks of layers of several kinds: loop and scan, windows and rings, what layers hand on."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _drawn import initial, params_of
from _turns import some_of
from flax import linen as nn

from flaxmodels import blocks
from flaxmodels import params as fp
from flaxmodels.families.llama import LlamaConfig, LlamaForCausalLM

WINDOW, LENGTH = 3, 9
IDS = np.random.default_rng(0).integers(0, 64, (2, LENGTH))
SLIDING, FULL = blocks.Kind("sliding_attention"), blocks.Kind("full_attention", None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MixedConfig(LlamaConfig):
    form: str = ""  # of every third layer

    @property
    def layer_kinds(self):
        full = FULL._replace(form=self.form)
        return tuple(full if i % 3 == 2 else SLIDING for i in range(self.num_hidden_layers))

    def window(self, attention):
        return WINDOW if attention == "sliding_attention" else None


class Mixed(LlamaForCausalLM):
    config_class = MixedConfig


CONFIG = MixedConfig(
    vocab_size=64,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=8,
    num_attention_heads=4,
    num_key_value_heads=2,
)


def looped(stacked):
    """The same params, each layer by itself, by the meaning of the paths."""
    apart = {}
    for path, leaf in fp.flatten(stacked).items():
        parts = path.split("/")
        at = next((i for i, part in enumerate(parts) if "+" in part), None)
        if at is None:
            apart[path] = leaf
            continue
        first, period = map(int, parts[at].split("+"))
        for i, layer in enumerate(leaf):
            apart["/".join([*parts[:at], str(first + period * i), *parts[at + 1 :]])] = layer
    return fp.unflatten(apart)


SCANNED = Mixed(CONFIG, scan_layers=True)  # one program, which branches in its attention
PERIODS = Mixed(CONFIG.replace(form="other"), scan_layers=True)


@pytest.fixture(scope="module")
def modes():
    """How layers are run -> a model and its params, the same in both."""
    stacked = params_of(SCANNED)
    apart = fp.unstack_layers(stacked, "model/layers")
    return {"scan": (SCANNED, stacked), "loop": (Mixed(CONFIG), apart)}


both = some_of("how", ["scan", "loop"], "scan")


def run(model, params, ids=IDS, mask=None, **inputs):
    cache = inputs.pop("cache", None)
    return passes(model, tuple(inputs.items()))(params, ids, mask, cache)


@functools.cache
def passes(model, asked):
    """A pass as a program for each shape."""
    return jax.jit(
        lambda p, *args: model.apply({"params": p}, *args[:2], cache=args[2], **dict(asked))
    )


def test_a_path_says_which_layers_a_stacked_leaf_holds():
    leaf = "self_attn/q_proj/kernel"
    described = PERIODS.abstract_params()
    shapes = {p: x.shape[0] for p, x in fp.flatten(described).items() if p.endswith(leaf)}
    assert shapes == {
        f"model/layers/{name}/{leaf}": count
        for name, count in {"0+3": 2, "1+3": 2, "2+3": 2, "6+1": 2}.items()
    }
    template = fp.flatten(Mixed(CONFIG).abstract_params())
    assert {p: x.shape for p, x in template.items()} == {
        p: x.shape for p, x in fp.flatten(looped(params_of(PERIODS))).items()
    }
    drawn, of_loop = initial(PERIODS, leaf), initial(Mixed(CONFIG), leaf)
    assert jax.tree.all(jax.tree.map(np.array_equal, looped(drawn), of_loop))


def test_loop_and_scan_agree_in_everything(modes):
    segments = blocks.segments(tuple(kind.form for kind in PERIODS.config.layer_kinds))
    periods = fp.stack_layers(modes["loop"][1], ["layers"], segments=segments)
    asked = {"output_hidden_states": True, "output_attentions": True}
    outs = [
        jax.jit(lambda p, m=model: m.apply({"params": p}, IDS, **asked))(params)
        for model, params in (*modes.values(), (PERIODS, periods))
    ]
    assert len(outs[0].hidden_states) == 9 and len(outs[0].attentions) == 8
    for a, *others in zip(*map(jax.tree.leaves, outs), strict=True):
        for b in others:
            np.testing.assert_allclose(a, b, atol=1e-6)
    seen = [np.count_nonzero(weights[0, 0], axis=-1) for weights in outs[0].attentions]
    np.testing.assert_array_equal(seen[0], np.minimum(np.arange(LENGTH) + 1, WINDOW))
    np.testing.assert_array_equal(seen[2], np.arange(LENGTH) + 1)


@both
def test_a_ring_holds_the_window_and_no_more(modes, how):
    """Written by several tokens at once, by one, and past its end several times."""
    model, params = modes[how]
    expected = run(model, params).logits
    cache = model.init_cache(2, 12)
    ring, full = (cache.entries[kind.attention] for kind in (SLIDING, FULL))
    assert ring.keys[0].shape[-2] == WINDOW and full.keys[0].shape[-2] == 12
    assert isinstance(ring, blocks.Ring) and not isinstance(full, blocks.Ring)
    logits = []
    for start, stop in ((0, 4), (4, 5), (5, 7), (7, 9)):
        out = run(model, params, IDS[:, start:stop], cache=cache)
        cache = out.cache
        logits.append(out.logits)
    np.testing.assert_allclose(np.concatenate(logits, axis=1), expected, atol=1e-5)


def test_attentions_over_a_ring_have_the_keys_that_it_holds(modes):
    outs = [
        run(m, p, IDS[:, :5], cache=m.init_cache(2, 12), output_attentions=True)
        for m, p in modes.values()
    ]
    for a, b in zip(*(out.attentions for out in outs), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    assert [x.shape[-1] for x in outs[0].attentions[:3]] == [WINDOW + 5, WINDOW + 5, 12]


@both
def test_padding_before_tokens_changes_nothing(modes, how):
    model, params = modes[how]
    mask = np.ones((2, LENGTH), int)
    mask[0, :4] = 0
    options = {"max_new_tokens": 7, "eos_token_id": None, "pad_token_id": 0}
    padded = model.generate(params, IDS, attention_mask=mask, **options).sequences[0, LENGTH:]
    alone = model.generate(params, IDS[:1, 4:], **options).sequences[0, LENGTH - 4 :]
    np.testing.assert_array_equal(padded, alone)


def test_gradients_of_loop_scan_and_remat_agree():
    """Of a layer of the second kind between two windows and one."""
    config = CONFIG.replace(num_hidden_layers=4)
    scanned = SCANNED.clone(config=config)
    stacked = params_of(scanned)

    def gradient(model, params):
        return jax.grad(lambda p: model.apply({"params": p}, IDS).logits.var())(params)

    @jax.jit
    def gradients(apart, stacked):
        each = (gradient(model, stacked) for model in (scanned, scanned.clone(remat="full")))
        return gradient(Mixed(config), apart), *each

    apart = fp.unstack_layers(stacked, "model/layers")
    expected, *others = gradients(apart, stacked)
    expected = fp.stack_layers(expected, ["layers"])
    for found in others:
        for a, b in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-7)


def test_a_scan_carries_a_donated_cache_without_copies():
    """XLA copies what a branch wrote, of all layers, in each of them."""
    model = SCANNED.clone(config=CONFIG.replace(max_position_embeddings=4096))
    cache = jax.eval_shape(lambda: model.init_cache(1, 4096))
    step = jax.jit(
        lambda p, c: model.apply({"params": p}, IDS[:1, :1], cache=c).cache, donate_argnums=1
    )
    compiled = step.lower(model.abstract_params(), cache).compile()
    stacks = {x.shape for x in jax.tree.leaves(cache.entries)}
    text = compiled.as_text()
    for shape in stacks:
        dims = ",".join(map(str, shape))
        assert f"f32[{dims}]" in text
        assert not re.search(rf"f32\[{dims}\]\S* copy\(", text)


class Adder(nn.Module):
    """Adds its input and what the layers before have counted; counts itself."""

    config: object
    options: object

    @nn.compact
    def __call__(self, x, context, at):
        weight = self.param("weight", nn.initializers.ones, ())
        count = context.shared["count"]
        x = x + weight * context.layer_inputs["step"] + count
        return blocks.LayerOutput(x, context.cache, shared={"count": count + 1})


OTHER = FULL._replace(form="other")


@pytest.mark.parametrize("scan", [False, True])
@pytest.mark.parametrize("kinds", [(SLIDING,) * 5, (SLIDING, FULL, OTHER, FULL, OTHER)])
def test_layers_have_inputs_of_their_own_and_hand_on(kinds, scan):
    context = blocks.PassContext(jnp.arange(3)[None], {}, shared={"count": jnp.zeros(())})
    steps = 10.0 ** jnp.arange(5)
    layers = blocks.Layers(Adder, CONFIG, kinds, blocks.ModelOptions(scan_layers=scan))
    out, _ = layers.init_with_output(jax.random.key(0), jnp.zeros(()), context, {"step": steps})
    assert float(out.x) == 11111 + (0 + 1 + 2 + 3 + 4)


@pytest.mark.parametrize(("form", "depths"), [("", (30, 7)), ("other", (30, 6))])
def test_a_scan_compiles_a_period_however_deep_the_model_is(form, depths):
    def size(depth):
        config = CONFIG.replace(num_hidden_layers=depth, form=form)
        model = SCANNED.clone(config=config)
        params = model.abstract_params()
        text = jax.jit(lambda p: model.apply({"params": p}, IDS)).lower(params).as_text()
        return len(text.splitlines())

    assert size(depths[0]) == size(depths[1])
