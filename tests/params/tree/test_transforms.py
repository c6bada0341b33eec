"""Every transform of params, by name: on Llama-70B's template, under `jit`, and on eight devices.

A public function of `fp`, or a model's method with `params`, that no table here names is an error.
"""

import dataclasses
import functools
import inspect
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from _turns import in_turn
from jax.core import Tracer

import flaxmodels as fm
from flaxmodels import params as fp
from flaxmodels import registry
from flaxmodels import sharding as fs

NOT_TRANSFORMS = (  # those that quantise are in params/quantized
    "load_flax_sharded_weights load_sharded_checkpoint open_checkpoint parse_dtype "
    "quantize dequantize"
)
NOT_TRANSFORM_METHODS = (  # those of adapters are in tests/params/adapters
    "add_adapter load_adapter get_adapter_state_dict set_adapter active_adapters enable_adapters "
    "disable_adapters delete_adapter merge_adapter unmerge_adapter "
    "create_model_card cut dequantize edit_half first_pass generate next_pass post_init "
    "push_to_hub save_pretrained stream"
)

FIELDS = "vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads".split()
FIELDS += ["num_key_value_heads", "max_position_embeddings"]
V, D, INNER, LAYERS = 128256, 8192, 28672, 80
LLAMA_70B = dict(zip(FIELDS, (V, D, INNER, LAYERS, 64, 8, 8192), strict=True))
# Matrices of one shape: what is compiled for one leaf serves others.
TINY = dict(zip(FIELDS, (16, 16, 16, 2, 4, 4, 16), strict=True))
DTYPES = {"kernel|embedding": "bfloat16"}  # norms and biases are float32

ALL = 70_553_706_496
TABLE = HEAD = V * D
MLP = LAYERS * 3 * D * INNER
NBYTES = 2 * ALL + 2 * (2 * LAYERS + 1) * D  # by DTYPES
GROUP = LAYERS * (8 + 8 + 1 + 1) * 128 * D  # queries and the rows after them; a key, a value
BERT_HEAD = D * D + 3 * D + V
BERT_LAYER = 4 * (D * D + D) + 2 * D * INNER + INNER + 5 * D
BERT = TABLE + (8192 + 2 + 2) * D + LAYERS * BERT_LAYER + BERT_HEAD
KEY = jax.random.key(0)


@dataclasses.dataclass(frozen=True)
class Transform:
    """How one is called, and what it makes of Llama-70B's params.

    Attributes:
        call: (model, params) -> a tree, its leaves at paths that some model has; or a value of
            paths, shapes and dtypes, which are there in a trace too. Hands on `donate`.
        expected: how many numbers are in the tree; or the value.
        dtype: of every leaf, if it casts.
        bert: of a BERT of these sizes: Llama's head has no bias.
        draws: it makes arrays of a template; where they go is said to `jit`.
        gathers: over shards of heads; where the result goes under `jit`, XLA decides.
        compares: numbers, which a trace does not have.
    """

    call: Callable[..., Any]
    expected: Any
    dtype: str | None = None
    bert: bool = False
    draws: bool = False
    gathers: bool = False
    compares: bool = False


def in_mlp(path: str, _: Any) -> bool:
    return "/mlp/" in path


def twice(params: Any) -> Any:
    """In host memory: what takes it has to bring it to where its params are."""
    made = fp.scale(params, 2.0)
    without = Tracer, jax.ShapeDtypeStruct  # numbers
    return made if isinstance(jax.tree.leaves(made)[0], without) else jax.device_get(made)


def at(path: str, tree: Any) -> Any:
    """`tree` where it is in a model's."""
    return functools.reduce(lambda inner, name: {name: inner}, reversed(path.split("/")), tree)


def without_first_group(model: Any, params: Any) -> Any:
    config = model.config
    group = range(config.num_attention_heads // config.num_key_value_heads)
    return model.prune_heads(params, dict.fromkeys(range(config.num_hidden_layers), group))[1]


T, E, W, B = Transform, "model/embed_tokens", "lm_head/kernel", "cls/predictions"
FUNCTIONS = {
    "add": T(lambda m, p, **kw: fp.add(p, twice(p), **kw), ALL),
    "as_mask": T(lambda m, p: fp.num_parameters(p, fp.as_mask(in_mlp, p)), MLP),
    "cast": T(lambda m, p: fp.cast(p, "float16"), ALL, dtype="float16"),
    "diff": T(
        lambda m, p: [fp.diff(p, q).equal for q in (p, fp.to_fp32(p))], [True, False], compares=True
    ),
    "ema": T(lambda m, p, **kw: fp.ema(p, fp.to_fp32(twice(p)), 0.5, **kw), ALL),
    "flatten": T(lambda m, p: fp.flatten(p), ALL),
    "get_leaf": T(lambda m, p: at(W, fp.get_leaf(p, W)), HEAD),
    "initialize": T(lambda m, _: fp.initialize(m.abstract_params(DTYPES), KEY), ALL, draws=True),
    "interpolate": T(lambda m, p, **kw: fp.interpolate(p, twice(p), 0.5, **kw), ALL),
    "mask_except": T(lambda m, p: fp.num_parameters(p, fp.mask_except(p, "mlp")), ALL - MLP),
    "memory_footprint": T(lambda m, p: fp.memory_footprint(p), NBYTES),
    "merge": T(lambda m, p: fp.merge(*fp.partition(p, in_mlp)), ALL),
    "num_parameters": T(lambda m, p: fp.num_parameters(p), ALL),
    "partition": T(lambda m, p: fp.partition(p, in_mlp)[1], ALL - MLP),
    "scale": T(lambda m, p, **kw: fp.scale(p, 2.0, **kw), ALL),
    "select": T(lambda m, p: fp.select(p, in_mlp), MLP),
    "stack_layers": T(lambda m, p: fp.stack_layers(p), ALL),
    "summary": T(lambda m, p: fp.summary(p).splitlines()[-1].split()[2], f"{ALL:,}"),
    "to_bf16": T(lambda m, p: fp.to_bf16(p), ALL, dtype="bfloat16"),
    "to_fp16": T(lambda m, p: fp.to_fp16(p), ALL, dtype="float16"),
    "to_fp32": T(lambda m, p: fp.to_fp32(p), ALL, dtype="float32"),
    "unflatten": T(lambda m, p: fp.unflatten(fp.flatten(p)), ALL),
    "unstack_layers": T(lambda m, p: fp.unstack_layers(fp.stack_layers(p), "model/layers"), ALL),
}
METHODS = {
    "get_bias": T(lambda m, p: at(B, m.get_bias(p)), V, bert=True),
    "get_input_embeddings": T(lambda m, p: at(E, m.get_input_embeddings(p)), TABLE),
    "get_lm_head": T(lambda m, p: at("lm_head", m.get_lm_head(p)), HEAD),
    "get_memory_footprint": T(lambda m, p: m.get_memory_footprint(p), NBYTES),
    "get_output_embeddings": T(lambda m, p: at("lm_head", m.get_output_embeddings(p)), HEAD),
    "get_output_layer_with_bias": T(
        lambda m, p: at(B, m.get_output_layer_with_bias(p)), BERT_HEAD, bert=True
    ),
    "get_parameter_or_buffer": T(lambda m, p: at(W, m.get_parameter_or_buffer(p, W)), HEAD),
    "num_parameters": T(lambda m, p: m.num_parameters(p, exclude_embeddings=True), ALL - TABLE),
    "prune_heads": T(without_first_group, ALL - GROUP, gathers=True),
    "resize_token_embeddings": T(
        lambda m, p: m.resize_token_embeddings(p, m.config.vocab_size + 64, KEY)[1],
        ALL + 2 * 64 * D,
    ),
    "set_bias": T(lambda m, p: m.set_bias(p, twice(m.get_bias(p))), BERT, bert=True),
    "set_input_embeddings": T(
        lambda m, p: m.set_input_embeddings(p, twice(m.get_input_embeddings(p)))[1], ALL
    ),
    "set_output_embeddings": T(
        lambda m, p: m.set_output_embeddings(p, twice(m.get_output_embeddings(p)))[1], ALL
    ),
    "to_bf16": T(lambda m, p: m.to_bf16(p), ALL, dtype="bfloat16"),
    "to_fp16": T(lambda m, p: m.to_fp16(p), ALL, dtype="float16"),
    "to_fp32": T(lambda m, p: m.to_fp32(p), ALL, dtype="float32"),
    "tie_weights": T(lambda m, p: m.tie_weights(p)[1], ALL - HEAD),
    "untie_weights": T(lambda m, p: type(m).untie_weights(*m.tie_weights(p))[1], ALL),
}
TRANSFORMS = {f"fp.{name}": made for name, made in FUNCTIONS.items()}
TRANSFORMS |= {f"model.{name}": made for name, made in METHODS.items()}
DONATING = [n for n in FUNCTIONS if "donate" in inspect.signature(getattr(fp, n)).parameters]
each_in_turn = in_turn("name", [*TRANSFORMS], "scan", [False, True], ids=(None, ["loop", "scan"]))


@functools.cache
def model_for(bert: bool, large: bool, scan: bool) -> tuple[Any, dict[str, Any]]:
    """(a model, {path: abstract leaf} of it looped and scanned)."""
    cls = fm.BertForMaskedLM if bert else fm.LlamaForCausalLM
    sizes = (LLAMA_70B if large else TINY).items()
    config = cls.config_class(**{key: n for key, n in sizes if cls.config_class.knows(key)})
    both = (cls(config, scan_layers=either).abstract_params(DTYPES) for either in (False, True))
    known = {path: leaf for tree in both for path, leaf in fp.flatten(tree).items()}
    return cls(config, scan_layers=scan), known


def shardings(template: Any) -> Any:
    return fs.shardings(template, fs.make_mesh(fsdp=4, tensor=2), fs.DEFAULT_RULES)


@functools.cache
def arrays(model: Any) -> tuple[Any, Any]:
    """NumPy params, whole numbers so that sums are exact; and the same on eight devices."""
    rng, template = np.random.default_rng(0), model.abstract_params(DTYPES)
    host = jax.tree.map(lambda x: rng.integers(-8, 8, x.shape).astype(x.dtype), template)
    return host, jax.device_put(host, shardings(template))


def traced(transform: Transform, model: Any, params: Any) -> Any:
    """What it makes in a trace; only a tree is what comes out."""
    values = []

    def call(params: Any) -> Any:
        result = transform.call(model, params)
        return result if isinstance(result, dict) else values.append(result)

    tree = jax.eval_shape(call, params)
    return values[0] if values else tree


@functools.cache
def compiled(bert: bool, scan: bool, turn: int) -> dict[str, Any]:
    """What each second transform of a model makes under `jit`: one program of them all."""
    model, _ = model_for(bert, False, scan)
    mine = {n: t for n, t in [*TRANSFORMS.items()][turn::2] if t.bert == bert and not t.compares}
    values: dict[str, Any] = {}

    def call(params: Any) -> Any:
        values.update({name: transform.call(model, params) for name, transform in mine.items()})
        return {name: values.pop(name) for name in mine if isinstance(values[name], dict)}

    return jax.jit(call)(arrays(model)[1]) | values


def leaves(result: Any) -> dict[str, Any]:
    return fp.flatten(result) if isinstance(result, dict) else {}


def assert_same(got: Any, expected: Any) -> None:
    """To the last place; what should be 0 may be some 1e-9, by the order of a sum."""
    if not isinstance(expected, dict):
        assert got == expected
    got, expected = leaves(got), leaves(expected)
    assert got.keys() == expected.keys()
    for path, leaf in got.items():
        one, other = (np.asarray(x).astype(np.float64) for x in (leaf, expected[path]))
        eps = float(jnp.finfo(leaf.dtype).eps)
        np.testing.assert_allclose(one, other, rtol=eps, atol=1e-8, err_msg=path)


def assert_dtypes(result: Any, transform: Transform, known: dict[str, Any]) -> None:
    for path, leaf in leaves(result).items():
        assert leaf.dtype == (transform.dtype or known[path].dtype), path


def test_every_public_transform_has_an_entry_and_every_entry_a_transform():
    functions = [name for name in fp.__all__ if name.islower()]
    assert sorted(functions) == sorted([*FUNCTIONS, *NOT_TRANSFORMS.split()])
    names = [name for family in registry.FAMILIES.values() for name in family.models]
    methods = {
        name
        for cls in map(registry.family_class, names)
        for name, method in inspect.getmembers(cls, callable)
        if name[0] != "_" and "params" in inspect.signature(method).parameters
    }
    assert sorted(methods) == sorted([*METHODS, *NOT_TRANSFORM_METHODS.split()])


@each_in_turn
def test_a_70b_template_takes_no_time(name, scan):
    transform = TRANSFORMS[name]
    model, known = model_for(transform.bert, True, scan)
    template = model.abstract_params(DTYPES)
    results = {}
    start = time.process_time()
    if not transform.compares:
        results["traced"] = traced(transform, model, template)
    if not transform.draws:
        results["abstract"] = transform.call(model, template)
    assert time.process_time() - start < 5
    for result in results.values():
        size = fp.num_parameters(result) if isinstance(result, dict) else result
        assert size == transform.expected
        assert_dtypes(result, transform, known)
    assert len(results) == 1 or results["traced"] == results["abstract"]
    for path, leaf in leaves(results.get("abstract")).items():
        assert leaf.axes == known[path].axes, path


@each_in_turn
def test_the_same_compiled_and_on_eight_devices(name, scan):
    transform = TRANSFORMS[name]
    model, known = model_for(transform.bert, False, scan)
    host, params = arrays(model)
    expected = transform.call(model, jax.tree.map(np.copy, host))
    results = {} if transform.draws else {"eager": transform.call(model, params)}
    if not transform.compares:
        turn = [*TRANSFORMS].index(name) % 2
        results["compiled"] = compiled(transform.bert, scan, turn)[name]
    where = shardings(known)
    for how, result in results.items():
        assert_same(result, expected)
        assert_dtypes(result, transform, known)
        if transform.draws or (transform.gathers and how == "compiled"):
            continue
        for path, leaf in leaves(result).items():
            assert leaf.sharding.is_equivalent_to(where[path], leaf.ndim), (how, path)


def memory(params: Any) -> list[int]:
    shards = (shard.data for x in jax.tree.leaves(params) for shard in x.addressable_shards)
    return [data.unsafe_buffer_pointer() for data in shards]


@in_turn("name", DONATING, "scan", [False, True], ids=(None, ["loop", "scan"]))
def test_donated_memory_is_taken(name, scan):
    model, call = model_for(False, False, scan)[0], FUNCTIONS[name].call
    some = lambda path, _: path.endswith(("q_proj/kernel", "layernorm/scale"))  # noqa: E731
    host, placed = (fp.select(tree, some) for tree in arrays(model))  # of both dtypes
    host = jax.tree.map(np.copy, host)
    expected = call(model, host)
    for params in (host, placed):
        params = jax.tree.map(jnp.copy, params)  # the runtime's own memory, not NumPy's
        before = memory(params)
        result = call(model, params, donate=True)
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves(params))
        assert memory(result) == before
        assert_same(result, expected)
    result = call(model, host, donate=True)
    assert all(map(lambda x, y: x is y, jax.tree.leaves(result), jax.tree.leaves(host)))
    assert_same(result, expected)
