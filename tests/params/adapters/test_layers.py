"""Single layers with adapters against PEFT's: values, gradients, merged weights.

The goldens are those of `scripts/goldens/models/make_adapter_goldens.py`."""

import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from flaxmodels import params as fp
from flaxmodels.blocks import Embed, Linear
from flaxmodels.families.deberta_v2 import Conv
from flaxmodels.params.adapters.adapter import Adapter
from flaxmodels.params.adapters.ia3 import IA3
from flaxmodels.params.adapters.lora import LoRA
from flaxmodels.params.adapters.lycoris import LoHa, LoKr
from flaxmodels.params.adapters.replaced_weight import TokenRows

GOLDENS = Path(__file__).parents[2] / "goldens" / "adapters.safetensors"
IN, OUT, ROWS, WINDOW = 12, 8, 10, 3
SCALE = np.float32(1.5)  # alpha 3, rank 2
CASES = (
    "lora rslora lora_bias dora lora_lora lora_dora loha lokr lokr_thin ia3 ia3_input lora_table "
    "dora_table tokens lora_conv dora_conv loha_conv"
).split()


@functools.cache
def arrays() -> dict[str, dict[str, np.ndarray]]:
    found: dict[str, dict[str, np.ndarray]] = {}
    for name, array in load_file(GOLDENS).items():
        case, _, key = name.partition("/")
        found.setdefault(case, {})[key] = array
    return found


def adapters_of(case: str, kind: str = "field") -> dict[str, dict[str, Any]]:
    """Returns the arrays of each adapter, or their gradients, as our fields."""
    found: dict[str, dict[str, Any]] = {"one": {}, "two": {}}
    for key, array in arrays()[case].items():
        if not key.startswith(f"{kind}/"):
            continue
        of = key.removeprefix(f"{kind}/").split(".")
        name = "two" if "two" in of else "one"
        field, value = turned(".".join(x for x in of if x not in ("one", "two")), array)
        found[name][field] = value
    return {name: fields for name, fields in found.items() if fields}


def turned(name: str, x: np.ndarray) -> tuple[str, np.ndarray]:
    """Returns our name of one of PEFT's arrays, and it as ours lies."""
    if name == "lora_A.weight":
        return "a", x.transpose(*range(2, x.ndim), 1, 0)
    if name == "lora_B.weight":
        return "b", x.reshape(x.shape[:2]).T
    if name == "hada_w1_b" or name == "hada_w2_b":
        own = x.reshape(2, IN, WINDOW).transpose(2, 1, 0) if x.shape[1] > IN else x.T
        return f"a{name[6]}", own
    if name in ("hada_w1_a", "hada_w2_a"):
        return f"b{name[6]}", x.T
    if name.startswith("lokr"):
        letter = {"": "w", "_a": "b", "_b": "a"}[name[7:]]
        return f"{letter}{name[6]}", x.T
    others = {"lora_B.bias": "bias", "lora_magnitude_vector.weight": "magnitude"}
    others |= {"lora_embedding_A": "a", "lora_embedding_B": "b", "trainable_tokens_delta": "rows"}
    if name.startswith("lora_embedding"):
        return others[name], x.T
    return (
        (others[name], x.reshape(-1) if "magn" in name else x)
        if name in others
        else (
            "factors",
            x.reshape(-1),
        )
    )


def made(case: str, fields: dict[str, Any]) -> Adapter:
    if case.startswith("ia3"):
        return IA3(**fields, on="input" if case == "ia3_input" else "output")
    if case == "tokens":
        return TokenRows(**fields, index=np.int32([7, 2]))
    if case.startswith("loha"):
        return LoHa(**fields, scale=SCALE)
    if case.startswith("lokr"):
        every = dict.fromkeys(("w1", "a1", "b1", "w2", "a2", "b2"))
        return LoKr(**every | fields, scale=np.float32(3 / (4 if case == "lokr" else 1)))
    rank = fields["b"].shape[0]
    return LoRA(**fields, scale=np.float32(3 / (rank**0.5 if case == "rslora" else rank)))


def layer_of(case: str) -> tuple[Any, dict[str, np.ndarray], str, np.ndarray]:
    """Returns (module, its params, the leaf that is adapted, x)."""
    golden = arrays()[case]
    x, weight = golden["x"], golden["weight"]
    if "table" in case or case == "tokens":
        return Embed(ROWS, OUT, 0.1), {"embedding": weight}, "embedding", x
    if "conv" in case:
        kernel = weight.transpose(2, 1, 0)
        return (
            Conv(OUT, WINDOW, 0.1),
            {"kernel": kernel, "bias": golden["bias"]},
            "kernel",
            x.swapaxes(1, 2),
        )
    params = {"kernel": weight.T, "bias": golden["bias"]}
    return Linear(OUT, ("embed", "mlp"), 0.1), params, "kernel", x


def run(module: Any, params: Any, x: np.ndarray) -> jax.Array:
    more = (jnp.float32,) if isinstance(module, Embed) else ()
    return module.apply({"params": params}, x, *more)


def adapted(case: str) -> tuple[Any, Any, str, np.ndarray]:
    module, params, leaf, x = layer_of(case)
    for name, fields in adapters_of(case).items():
        params = fp.attach(params, name, {leaf: made(case, fields)})
    return module, params, leaf, x


def as_torch(case: str, y: Any) -> np.ndarray:
    return np.asarray(y).swapaxes(1, 2) if "conv" in case else np.asarray(y)


@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_are_pefts(case):
    golden = arrays()[case]
    module, params, leaf, x = adapted(case)
    probe = as_torch(case, golden["probe"]) if "conv" in case else golden["probe"]
    trained, rest = fp.split_adapters(params)

    def loss(trained):
        y = run(module, fp.join_adapters(trained, rest), x)
        return jnp.sum(y * probe), y

    grads, y = jax.jit(jax.grad(loss, has_aux=True))(trained)
    np.testing.assert_allclose(as_torch(case, y), golden["y"], atol=2e-6, rtol=2e-5)
    expected = adapters_of(case, "grad")
    assert grads[leaf].keys() == expected.keys()
    for name, fields in expected.items():
        assert grads[leaf][name].keys() == fields.keys()
        for field, value in fields.items():
            got = grads[leaf][name][field]
            np.testing.assert_allclose(got, value, atol=2e-5, rtol=1e-4, err_msg=field)


@pytest.mark.parametrize("case", CASES)
def test_merged_as_pefts_and_taken_out_again(case):
    golden = arrays()[case]
    module, params, leaf, x = adapted(case)
    _, before, _, _ = layer_of(case)
    merged = fp.merge_adapters(params)
    axes = {2: (1, 0), 3: (2, 1, 0)}[golden["merged"].ndim]
    expected = golden["merged"] if leaf == "embedding" else golden["merged"].transpose(axes)
    np.testing.assert_allclose(merged[leaf], expected, atol=2e-6, rtol=2e-5)
    if "bias" in merged:
        np.testing.assert_allclose(merged["bias"], golden["merged_bias"], atol=1e-6)
    np.testing.assert_allclose(
        as_torch(case, run(module, merged, x)), golden["y"], atol=1e-5, rtol=1e-4
    )
    kept = fp.merge_adapters(params, keep=True)
    np.testing.assert_allclose(
        as_torch(case, run(module, kept, x)), golden["y"], atol=1e-5, rtol=1e-4
    )
    if case != "tokens":
        again = fp.unmerge_adapters(kept)
        assert jax.tree.structure(again) == jax.tree.structure(params)
        for name, array in before.items():
            got = fp.without_adapters(again)[name]
            np.testing.assert_allclose(got, array, atol=1e-6, rtol=1e-5)


def test_a_convolution_refuses_what_its_weight_does_not_say():
    module, params, leaf, x = adapted("lora_conv")
    lora = params[leaf].adapters["one"]
    for more in ({"bias": np.ones(OUT, np.float32)}, {"dropout": 0.5, "key": np.uint32([0, 1])}):
        changed = params[leaf].replace(adapters={"one": lora.replace(**more)})
        with pytest.raises(ValueError, match="as of a convolution, with LoRA that drops inputs"):
            run(module, params | {leaf: changed}, x)
