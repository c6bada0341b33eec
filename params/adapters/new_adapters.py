"""New adapters for a tree of params, as PEFT begins them."""

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from ..errors import warn
from ..tree.cast import parse_dtype
from ..tree.keys import one_key
from ..tree.layers import apart
from ..tree.paths import flatten
from ..types import Params
from .adapted_weight import base_of, over_layers
from .adapter import ALL, LOOKUP, Adapter, Base
from .attach import attach
from .ia3 import IA3
from .initial_values import Drawing, Place, Start
from .lora import LoRA, wide_dense
from .lycoris import LoHa
from .peft import targets
from .peft.config import PeftConfig
from .replaced_weight import Replacement, TokenRows

Names: TypeAlias = Mapping[str, str | Sequence[str]]
"""{path of a leaf: the name of its module; those of the layers' if it is of stacked ones}."""


def lora_init(
    key: jax.Array,
    params: Params,
    config: PeftConfig | Mapping[str, object],
    name: str = "default",
    *,
    names: Names | None = None,
    stacks: Sequence[str] = (),
    tied: Collection[str] = (),
    dtype: jax.typing.DTypeLike = jnp.float32,
) -> Params:
    """Returns params with a new adapter, which computes what they did before: LoRA, rsLoRA, DoRA,
    LoHa, IA3, trainable tokens, and what is trained as a whole, as the configuration says.

    A is drawn as PEFT does, uniform up to 1 / sqrt(in), and B is zero; of a table A is zero, and B
    normal. Each layer draws by the name of its module, the same whether layers are stacked or not.
    On a mesh A lies as the in axis of the weight does, B as its out axis.

    Args:
        key: a `jax.random.key`.
        params: arrays or quantised weights; of a template what is new is abstract too, with axes.
        config: what to adapt: `fp.PeftConfig`, or the content of an `adapter_config.json`.
        names: how its rules see modules; if None, their paths, with dots: "model.layers.0.q_proj".
        stacks: names of the lists whose layers are stacked, as `model.naming.stacks`; for `names`.
        tied: paths of tables that are heads too; their lookups alone are adapted, unless
            `ensure_weight_tying` says otherwise.
        dtype: of the new arrays.

    Raises:
        ValueError: rules that match nothing, a method that nothing is drawn for, a name that there
            is already.
    """
    config = PeftConfig.of(config)
    if config.peft_type not in _NEW:
        raise ValueError(
            f"an adapter of {config.peft_type} is not begun here, {', '.join(_NEW)} are; one that "
            "peft has begun is read, trained and saved: model.load_adapter(params, folder)"
        )
    names = module_names(params, stacks) if names is None else names
    draw = Drawing(one_key(key), parse_dtype(dtype), _start(config))
    made: dict[str, Adapter] = {}
    for path, leaf in flatten(params).items():
        part = LOOKUP if path in tied and not config.ensure_weight_tying else ALL
        place = Place(path, base_of(leaf), names.get(path, ()), part)
        if adapter := _adapter(place, config, draw):
            made[path] = dataclasses.replace(adapter, config=config)
    known = {x for each in names.values() for x in ([each] if isinstance(each, str) else each)}
    unused = targets.unused_rules(config, known)
    if not any(not isinstance(adapter, Replacement) for adapter in made.values()):
        target = config.target_modules
        if isinstance(target, str):
            unused = [f"a text is a regular expression on whole names, [{target!r}] ends of names"]
        raise ValueError("; ".join([f"target_modules {target!r} match no module", *unused]))
    if unused:
        warn(f"rules of the adapter {name!r} do nothing: {'; '.join(unused)}")
    return attach(params, name, made)


def _start(config: PeftConfig) -> bool | str:
    """Returns how arrays begin, as PEFT's key of the method says; refuses a way that is not done
    here, and what training would not do."""
    key, known = _STARTS[config.peft_type]
    start = config.extra.get(key, True)
    for name in ("rank_dropout", "module_dropout"):
        if config.extra.get(name):
            raise ValueError(f"{name} of {config.peft_type} is not done here; leave it out")
    if start is None:
        return True
    if not isinstance(start, bool | str) or start not in known:
        raise ValueError(f"{key} is {start!r}; adapters begin here with one of {known}")
    return start


_STARTS: dict[str, tuple[str, tuple[bool | str, ...]]] = {
    "LORA": ("init_lora_weights", (True, False, "gaussian")),
    "LOHA": ("init_weights", (True, False)),
    "IA3": ("init_ia3_weights", (True,)),
    "TRAINABLE_TOKENS": ("init_weights", (True,)),
}


def module_names(params: Params, stacks: Sequence[str] = ()) -> Names:
    """Returns the names of the modules of leaves: paths without the last name, with dots."""

    def named(path: str) -> str:
        return path.rpartition("/")[0].replace("/", ".")

    found: dict[str, str | list[str]] = {}
    for path, leaf in flatten(params).items():
        layers = apart(path, leaf.shape[0], stacks) if leaf.shape else []
        found[path] = [named(layer) for layer in layers] if layers else named(path)
    return found


def _adapter(place: Place, config: PeftConfig, draw: Drawing) -> Adapter | None:
    """Makes the adapter of one weight, if it has one."""
    if not place.layers:
        return None
    is_saved = any(targets.is_saved(config, name) for name in place.layers)
    if is_saved or _is_trained_bias(place, config):
        return Replacement(draw.copy(place), part=place.part)
    if rows := _rows(place, config):
        index = jax.device_put(np.array(rows, np.int32))
        return TokenRows(draw.rows(place, rows), index)  # of a head too, as PEFT
    targeted = [targets.is_targeted(config, name) for name in place.layers]
    if config.peft_type not in _NEW or not any(targeted) or not place.is_linear:
        return None
    return _NEW[config.peft_type](place, targeted, config, draw)


def _is_trained_bias(place: Place, config: PeftConfig) -> bool:
    if config.bias == "none" or not place.path.endswith("/bias"):
        return False
    return config.bias == "all" or any(targets.is_targeted(config, name) for name in place.layers)


def _rows(place: Place, config: PeftConfig) -> tuple[int, ...]:
    """Returns which rows of a table are trained."""
    for end, rows in config.trainable_token_indices if place.is_table else ():
        if not end or targets.ends_with(place.layers[0], (end,)):
            return rows
    return ()


def _lora(place: Place, targeted: list[bool], config: PeftConfig, draw: Drawing) -> LoRA:
    """Makes the LoRA of one weight. Layers of stacked ones that have none get the scale 0, those of
    a lower rank zeros."""
    if config.lora_bias and place.is_table:
        raise ValueError(f"{place.path}: a table has no lora_bias; PEFT has none either")
    thin, scale = _thin(place, targeted, config, draw)
    bias = Start((place.shape[-1],), (-1,), "zeros")
    made = LoRA(
        thin("a", "zeros" if place.is_table else "uniform"),
        thin("b", "normal" if place.is_table else "zeros"),
        scale,
        bias=draw.array(place, "bias", bias) if config.lora_bias else None,
        dropout=0.0 if place.is_table else config.lora_dropout,
        part=place.part,
    )
    if not config.use_dora:
        return made
    return made.replace(magnitude=draw.lengths(place, _lengths, made))


def _thin(
    place: Place, targeted: list[bool], config: PeftConfig, draw: Drawing
) -> tuple[Callable[[str, str], jax.Array], jax.Array]:
    """Returns ((field, kind of numbers) -> a thin matrix beside a weight: [in, r] if the field's
    name begins with "a", else [r, out]; the scales)."""
    ranks = [targets.rank_of(config, name) for name in place.layers]
    chosen = zip(place.layers, targeted, strict=True)
    scales = [targets.scale_of(config, name) * on for name, on in chosen]
    *front, out = place.shape

    def thin(field: str, kind: str) -> jax.Array:
        ins = (*range(-len(front) - 1, -1), None)
        down = Start((*front, max(ranks)), ins, kind, -1)
        up = Start((max(ranks), out), (None, -1), kind, -2)
        return draw.array(place, field, down if field.startswith("a") else up, ranks)

    return thin, draw.scales(place, scales)


@jax.jit
def _lengths(base: Base, lora: LoRA) -> jax.Array:
    """Returns what the magnitudes of DoRA begin as, by one program for all weights of a shape."""
    return over_layers(lambda base, lora: lora.lengths(wide_dense(base)), base, lora)


def _loha(place: Place, targeted: list[bool], config: PeftConfig, draw: Drawing) -> LoHa:
    thin, scale = _thin(place, targeted, config, draw)
    first = thin("a1", "uniform"), thin("b1", "uniform")
    second = thin("a2", "zeros"), thin("b2", "uniform")
    return LoHa(*first, *second, scale=scale, part=place.part)


def _ia3(place: Place, targeted: list[bool], config: PeftConfig, draw: Drawing) -> IA3:
    before = [targets.is_scaled_before(config, name) for name in place.layers]
    if not all(targeted) or len({*before}) > 1:
        raise ValueError(
            f"{place.path}: IA3 of some of the stacked layers, or of inputs of some and "
            "outputs of others; fp.unstack_layers first"
        )
    axis = -2 if before[0] else -1
    factors = draw.array(place, "factors", Start((place.shape[axis],), (axis,), "ones"))
    return IA3(factors, "input" if before[0] else "output")


_NEW = {"LORA": _lora, "LOHA": _loha, "IA3": _ia3, "TRAINABLE_TOKENS": lambda *_: None}
