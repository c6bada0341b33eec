"""Loading: resolve -> open -> reconcile -> plan -> stream; each step's result can be printed."""

import contextlib
import dataclasses
import functools
import os
import time
from collections.abc import Collection, Iterable
from typing import Generic, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from .. import gguf
from .. import params as fp
from .. import sharding as fs
from ..adapters.discovery import Adapted, find_adapter, replaced_by_adapters
from ..config.config import CONFIG_NAME, Config
from ..core.model import Model, warn_of_replicated
from ..core.template import drawn
from ..hub import Location, proxied
from ..params.atomic.replace import settled
from ..params.checkpoint.load_plan import LoadPlan
from ..params.checkpoint.match import Match
from ..params.checkpoint.sources import rename_tensors, source_of
from ..params.checkpoint.ties import untied
from ..params.errors import some, warn
from ..params.formats import LOCAL
from ..params.formats.checksums import verify
from ..params.formats.gguf import Gguf, open_gguf
from ..params.host.threads import run_untraced
from ..params.multihost import run_on_all_processes
from ..params.process_agreement import agree
from .build import Choose, M, build, described
from .checkpoint_agreement import record_of_load, record_of_name
from .loading_info import LoadingInfo
from .model_plan import PlanOptions, plan_load
from .offload import placed_leaves, streamed
from .quantization.leaves import config_after
from .request import Request


class Planned(NamedTuple, Generic[M]):
    """A load before any weight is read."""

    model: M
    plan: LoadPlan
    location: Location | None
    adapter: Adapted | None = None


def load(
    request: Request, choose: Choose[M]
) -> tuple[M, fp.Params] | tuple[M, fp.Params, LoadingInfo]:
    """Opens a checkpoint and streams its weights; see `PretrainedModel.from_pretrained`.

    Args:
        choose: the model class, by the content of the configuration.
    """
    options = request.plan
    if options.mesh is not None:
        fs.check_mesh(options.mesh)  # not abstract
    # A process that cannot read its part must not leave the others waiting in the first step.
    together = functools.partial(run_on_all_processes, alone=options.is_local)
    with proxied(request.hub.proxies):
        model, plan, location, adapter = planned(request, choose)
        tied = functools.partial(_as_tied_as_the_file, model, plan, request)
        model, plan = together(tied, "comparing tied tensors")
        if not options.is_local:
            agree("a load", record_of_load(model, plan, location, options))
        start = time.perf_counter()
        if plan.on_disk and location is not None:
            location.download(plan.match.source)
        read = functools.partial(streamed, plan, options, progress=request.hub.progress)
        params = together(read, "reading weights")
        seconds = time.perf_counter() - start
    match = plan.match
    if match.fresh:
        drawn_leaves = initialized(model, match.fresh, request, plan.dtypes.values())
        if options.device_map is not None:
            drawn_leaves = placed_leaves(model, drawn_leaves, plan, options)
        params = fp.merge(params, drawn_leaves)
    if options.mesh is not None:
        placed = model.place(model.abstract_params(), options.mesh)
        warn_of_replicated(placed)
        params = together(lambda: placed.pad(params), "padding leaves")
    made, dequantize = options.recipe is not None, options.dequantize
    config = config_after(model.config, plan, dequantize=dequantize, made=made)
    model = model if config is model.config else model.clone(config=config)
    if adapter is not None:
        with proxied(request.hub.proxies):
            onto = functools.partial(adapter.onto, model, params)
            params = together(onto, "reading an adapter")
    params = model.post_init(params)
    _warn(type(model), match, replaced_by_adapters(params) if adapter else frozenset())
    if not request.output_loading_info:
        return model, params
    return model, params, LoadingInfo.of(plan, location and location.revision, seconds)


def planned(request: Request, choose: Choose[M]) -> Planned[M]:
    """Plans a load, by all processes together; arguments as `load`."""
    config, location, adapter = request.config, None, None
    if not request.plan.is_local:
        agree("a load", record_of_name(request.call, request.name_or_path))
    if request.name_or_path is not None:
        found = request.locate_weights(request.name_or_path)
        location, adapter = find_adapter(request, found)
    elif not isinstance(config, Config) or request.state_dict is None:
        raise TypeError(f"{request.call} needs a name or path, or config and state_dict")
    folder = location.folder if location else ""
    if config is None:
        config = os.path.join(folder, CONFIG_NAME)
    elif not isinstance(config, Config):
        config = request.locate_config(config)

    def prepare() -> tuple[M, fp.Source]:
        with location.noting() if location else contextlib.nullcontext():
            read = _opened_gguf(location) if location and request.state_dict is None else None
            if read and request.config is None:
                cls, configuration = described(choose, read.path, gguf.config_of(read))
            else:
                cls, configuration = described(choose, config)
            model = build(
                cls,
                request.adapt(configuration),
                request.for_class(cls).fields,
                folder,
                call=request.call,
                config_is_given=configuration is config,
            )
            model = request.plan.ruled(model)
        if location is None or request.state_dict is not None:
            return model, source_of(request.state_dict or {})
        if read:
            return model, gguf.source_of(read)
        return model, request.weights.open(location)

    def plan_one() -> Planned[M]:
        # Only what is on the disk may be replaced meanwhile; a commit never changes.
        may_change = location is not None and location.store is LOCAL
        model, source = settled(folder, prepare) if may_change else prepare()
        if request.verify and location is not None:
            location.download(source)
            verify(source, os.path.join(folder, CONFIG_NAME))
        if request.key_mapping:
            source = rename_tensors(source, request.key_mapping)
        return Planned(model, plan_load(model, source, request.plan), location, adapter)

    return run_on_all_processes(plan_one, "planning a load", alone=request.plan.is_local)


def _opened_gguf(location: Location) -> Gguf | None:
    is_gguf = location.path.endswith(gguf.ENDING)
    return open_gguf(location.path, location.store) if is_gguf else None


def load_tf(model: Model, path: str, options: PlanOptions) -> fp.Params:
    """Reads the params of a TensorFlow checkpoint; see `PretrainedModel.load_tf_weights`."""
    model = options.ruled(model)
    plan = plan_load(model, fp.open_checkpoint(path, framework="tf"), options)
    source, missing = plan.match.source, plan.match.missing
    if missing:
        raise fp.CheckpointError(
            f"{source.where}: not in the checkpoint: {some(missing)}; from_pretrained "
            "initialises the leaves of a new head"
        )
    params = streamed(plan, options, progress=False)
    if options.mesh is None:
        return params
    return model.place(model.abstract_params(), options.mesh).pad(params)


def _as_tied_as_the_file(model: M, plan: LoadPlan, request: Request) -> tuple[M, LoadPlan]:
    """Unties a model whose checkpoint holds two different tensors where its config claims a tie:
    the one under the tied name is then a head of its own. Ties one whose checkpoint holds no head,
    if its family says so."""
    match = plan.match
    if model.head_by_file and f"{model.output_embeddings_path}/kernel" in match.missing:
        tied = model.clone(config=model.config.replace(tie_word_embeddings=True))
        return tied, plan_load(tied, match.source, request.plan)
    # An untied model computes with its own leaves, and uses no other tensor of the checkpoint.
    if not model.config.tie_word_embeddings or not (differ := untied(match)):
        return model, plan
    message = f"{match.source.where}: {some(differ)}"
    if request.fields.get("tie_word_embeddings"):
        warn(f"{message}; tie_word_embeddings=True was given, so the second is used alone")
        return model, plan
    apart = model.clone(config=model.config.replace(tie_word_embeddings=False))
    new = plan_load(apart, match.source, request.plan)
    if set(new.match.missing) <= set(match.missing):
        warn(
            f"{message}, although the config has tie_word_embeddings: the model is untied, and so "
            "is its config"
        )
        new = dataclasses.replace(new, match=dataclasses.replace(new.match, said=match.said))
        return apart, new
    warn(f"{message}, and they are one in this model; the second is used")
    return model, plan


def initialized(
    model: Model, paths: Iterable[str], request: Request, loaded: Iterable[np.dtype]
) -> fp.Params:
    """Draws the leaves at `paths` of `model.init_params(key)`; where `param_dtype` is "auto", in
    that of `loaded` leaves, their dtypes, if they all have the same, else in float32."""
    dtype, mesh, shardings = request.plan.param_dtype, request.plan.mesh, request.plan.shardings
    if isinstance(dtype, str) and dtype == "auto":
        dtypes = {dtype for dtype in loaded if jnp.issubdtype(dtype, jnp.floating)}
        dtype = dtypes.pop() if len(dtypes) == 1 else None
    dtype = jnp.float32 if dtype is None else dtype
    template = model.abstract_params(dtype)
    if mesh is not None:
        shardings = model.place(template, mesh).unpadded
    template = fp.flatten(template)
    wanted = tuple((path, template[path]) for path in paths)
    if shardings is not None and not isinstance(shardings, jax.sharding.Sharding):
        given = fp.flatten(shardings)
        shardings = fp.unflatten({path: given[path] for path, _ in wanted})
    jitted = jax.jit(_drawn, static_argnums=(0, 1), out_shardings=shardings)
    draw = functools.partial(jitted, model, wanted)
    # Within a trace a load still gives arrays, but for leaves drawn by a key of that trace.
    if isinstance(request.key, Tracer):
        return draw(request.key)
    return run_untraced(lambda: draw(jax.random.key(0) if request.key is None else request.key))


def _drawn(
    model: Model, wanted: tuple[tuple[str, fs.AbstractParam], ...], key: jax.Array
) -> fp.Params:
    """Draws some leaves; compiled once for them, however often they are drawn."""
    return drawn(model, fp.unflatten(dict(wanted)), key)


def warn_of_new(cls: type[Model], where: str, paths: Collection[str]) -> None:
    """Warns of leaves that were drawn, if there are any.

    Args:
        where: the checkpoint, or what there is in the place of one.
    """
    if paths:
        warn(
            f"Weights from {cls.__name__} not initialized from pretrained model {where}: "
            f"{some(paths)}. Train it on a downstream task before using it."
        )


def _warn(cls: type[Model], match: Match, replaced: Collection[str]) -> None:
    """Warns of leaves that were not loaded, but for those that an adapter has `replaced`, and of
    tensors that were not used."""
    where, name = match.source.where, cls.__name__
    if match.said:
        warn(f"{where}: {match.said}")
    warn_of_new(cls, where, [path for path in match.fresh if path not in replaced])
    if match.unexpected:
        warn(f"Weights from {where} not used in {name}: {some(match.unexpected)}")
