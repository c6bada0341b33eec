"""Loading: resolve -> open -> reconcile -> plan -> stream; each step's result can be printed."""

import contextlib
import dataclasses
import functools
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.sharding import Mesh

from .. import params as fp
from .. import sharding as fs
from ..calls import keywords
from ..config.config import CONFIG_NAME, Config
from ..core.fields import config_names, field_names
from ..core.model import Model
from ..core.template import drawn
from ..hub import HubOptions, Location, proxied, resolve
from ..params.atomic.replace import settled
from ..params.checkpoint.match import Match
from ..params.checkpoint.plan import LoadPlan
from ..params.checkpoint.sources import rename_tensors, source_of
from ..params.checkpoint.stream import stream
from ..params.checkpoint.ties import untied
from ..params.errors import some, warn
from ..params.formats import LOCAL
from ..params.formats.checksums import verify
from ..params.host.apart import run_untraced
from ..params.multihost import broadcast_from_process_0, run_on_all_processes
from ..params.sizes import format_size
from .options import LOAD
from .plan import build, plan_load
from .request import Request


@dataclasses.dataclass(frozen=True, repr=False)
class LoadingInfo(Mapping[str, Any]):
    """What a load found: paths of leaves, names of tensors. It is a mapping of the first four too,
    as Transformers returns it: `info["missing_keys"]`.

    Attributes:
        missing_keys: leaves that the checkpoint does not have; they were initialised.
        unexpected_keys: tensors of the checkpoint that the model has no place for.
        mismatched_keys: (path, shape in the checkpoint, shape in the model) of leaves that were
            initialised because `ignore_mismatched_sizes` was set.
        error_msgs: empty: an error is raised, not collected.
        plan: the `LoadPlan` that was carried out.
        revision: the commit that the files are of, where they come from the Hub.
        bytes_read: {file: bytes}, headers included.
        seconds: that reading and placing the weights took.
    """

    missing_keys: list[str]
    unexpected_keys: list[str]
    mismatched_keys: list[tuple[str, tuple[int, ...], tuple[int, ...]]]
    error_msgs: list[str]
    plan: LoadPlan
    revision: str | None
    bytes_read: dict[str, int]
    seconds: float

    def __getitem__(self, name: str) -> Any:
        if name not in self.__dict__:
            raise KeyError(f"{name}; there are {', '.join(self.__dict__)}")
        return self.__dict__[name]

    def __iter__(self) -> Iterator[str]:
        return iter(("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"))

    def __len__(self) -> int:
        return 4

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        """One screen, however many leaves there are."""
        lines = [f"loading info of {self.plan.match.source.where}"]
        for name, value in self.items():
            named = [item if isinstance(item, str) else item[0] for item in value]
            lines.append(f"  {name}: {len(named)}" + (f" ({some(named)})" if named else ""))
        read = sum(self.bytes_read.values())
        of = f" of commit {self.revision}" if self.revision else ""
        files = len(self.bytes_read)
        lines.append(f"  {format_size(read)} read from {files} files{of} in {self.seconds:.2f} s")
        return "\n".join(lines)


class Planned(NamedTuple):
    """A load before any weight is read."""

    model: Model
    plan: LoadPlan
    found: Location | None


def load(
    cls: type[Model], name_or_path: str | os.PathLike | Location | None, request: Request
) -> Any:
    """Opens a checkpoint -> `(model, params)`, the params as stored, each leaf where it belongs.

    Args:
        name_or_path: a folder with `config.json` and weights of any format of `docs/formats.md`,
            the name of a repository on the Hub, a weights file (`config` is then needed unless one
            lies beside it), or the address of any of them: `https://`, `gs://`, and what else
            fsspec knows. None if `config` and `state_dict` are given.
        config: used instead of the folder's own: a configuration, or where to read one: a folder,
            a file, the name of a repository.
        dtype: what the model computes in.
        param_dtype: what the params are stored in: "auto" as in the checkpoint, a dtype or its
            name, or an ordered `{regular expression on the path: dtype}`; None is float32.
        mesh: place every leaf on it by `rules`; this process reads only what its devices hold.
        rules: logical axes -> mesh axes; `fs.DEFAULT_RULES` if None.
        shardings: instead of `mesh`: a tree of `jax.sharding.Sharding`, or one for all leaves.
        max_host_memory: bytes of host memory to use beyond the finished params, or "500MB".
        strict: refuse a backbone with leaves missing or tensors left over.
        ignore_mismatched_sizes: initialise leaves whose tensor has another shape.
        key: for leaves that are initialised; `jax.random.key(0)` if None.
        output_loading_info: return `(model, params, LoadingInfo)`.
        state_dict: {PyTorch name: array}, or a tree of params, used instead of saved weights.
        use_safetensors: True takes only safetensors, False never.
        from_pt, from_tf, from_flax: take only what PyTorch, TensorFlow or Flax writes. Without
            them, what there is: safetensors before msgpack before the others.
        variant: take `model.<variant>.safetensors` and its like, nothing else.
        weights_only: for PyTorch's pickles: False passes over objects that are no tensors. No code
            of a file ever runs, either way.
        key_mapping: ordered {regular expression: replacement} on the names in the checkpoint.
        verify: first compare the sha256 of every file with `checksums.json`
            (`save_pretrained(checksums=True)`).
        subfolder, revision, token, cache_dir, local_files_only, force_download: where in a
            repository, and whether to fetch it again, as in `huggingface_hub`.
        proxies: {"http" | "https" | "http://host": "host:port"}, used by this whole process until
            the load ends.
        progress: show a bar if it takes longer than a second.
        **kwargs: fields of the model (`scan_layers`, `remat`, `attn_implementation`), and, unless
            `config` is given, fields of the configuration, which they override. Keywords of
            Transformers act as ours do, or raise with what to write
            (`flaxmodels/calls/keywords.py`).

    Raises:
        fp.CheckpointError: a checkpoint that cannot be read, or is not this model's.
        ConfigError: a configuration that cannot be honoured.
        TypeError: a keyword that nothing here takes.
    """
    if request.mesh is not None:
        fs.check_mesh(request.mesh)
    # A process that cannot read its part must not leave the others waiting in the first step.
    together = functools.partial(
        run_on_all_processes, alone=_is_local(request.mesh, request.shardings)
    )
    with proxied(request.proxies):
        model, plan, found = planned(cls, name_or_path, request)
        model, plan = together(functools.partial(_as_tied_as_the_file, model, plan, request))
        start = time.perf_counter()
        params = together(lambda: stream(plan, progress=request.progress))
        seconds = time.perf_counter() - start
    match = plan.match
    if fresh := (*match.missing, *(bad.path for bad in match.mismatched)):
        made = functools.partial(_initialised, model, fresh, request, plan)
        # A load in the middle of a trace gives arrays, but for what the caller's own key draws.
        is_traced = isinstance(request.key, Tracer)
        params = fp.merge(params, made() if is_traced else run_untraced(made))
    params = model.post_init(params)
    _warn(cls, match)
    if not request.output_loading_info:
        return model, params
    return model, params, _info(plan, found and found.revision, seconds)


def planned(
    cls: type[Model], name_or_path: str | os.PathLike | Location | None, request: Request
) -> Planned:
    """What a load will do, by all processes together; arguments as `load`."""
    config = request.config
    found = None
    if name_or_path is not None:
        found = locate(name_or_path, **request.place)
    elif not isinstance(config, Config) or request.state_dict is None:
        raise TypeError("without a name or path, from_pretrained needs config and state_dict")
    if config is not None and not isinstance(config, Config):
        config = configuration(config, **request.place)
    folder = found.folder if found else ""

    def prepare() -> tuple[Model, fp.Source]:
        with found.noting() if found else contextlib.nullcontext():
            model = build(
                cls, folder, config, dtype=request.dtype, rules=request.rules, **request.fields
            )
        if found is None or request.state_dict is not None:
            return model, source_of(request.state_dict or {})
        return model, request.open(found)

    def plan_one() -> Planned:
        # Only what is on the disk may be replaced meanwhile; a commit stays what it is.
        changes = found is not None and found.store is LOCAL
        model, source = settled(folder, prepare) if changes else prepare()
        if request.verify and found is not None:
            found.download(source)
            verify(source, os.path.join(folder, CONFIG_NAME))
        if request.key_mapping:
            source = rename_tensors(source, request.key_mapping)
        return Planned(model, plan_load(model, source, **request.placement), found)

    return run_on_all_processes(plan_one, alone=_is_local(request.mesh, request.shardings))


def _as_tied_as_the_file(model: Model, plan: LoadPlan, request: Request) -> tuple[Model, LoadPlan]:
    """The model without the ties that its config claims and its checkpoint does not keep: a tensor
    under a tied name that differs from its partner is a head of its own."""
    match = plan.match
    # An untied model computes with its own leaves; what else a checkpoint holds is nobody's.
    if not model.config.tie_word_embeddings or not (differ := untied(match)):
        return model, plan
    said = f"{match.source.where}: {some(differ)}"
    if request.fields.get("tie_word_embeddings"):
        warn(f"{said}; tie_word_embeddings=True was given, so the second is used alone")
        return model, plan
    apart = model.clone(config=model.config.replace(tie_word_embeddings=False))
    new = plan_load(apart, match.source, **request.placement)
    if set(new.match.missing) <= set(match.missing):
        warn(
            f"{said}, although the config has tie_word_embeddings: the model is untied, and so is "
            "its config"
        )
        new = dataclasses.replace(new, match=dataclasses.replace(new.match, said=match.said))
        return apart, new
    warn(f"{said}, and they are one in this model; the second is used")
    return model, plan


def locate(
    name_or_path: str | os.PathLike | Location,
    *,
    mesh: Mesh | None = None,
    shardings: Any = None,
    **where: Any,
) -> Location:
    """`resolve`, by all processes that the params are spread over: one of them says which commit
    of a repository it is to be, and an error of one is raised by all."""
    if _is_local(mesh, shardings):
        return resolve(name_or_path, HubOptions(**where))
    find = functools.partial(
        resolve, name_or_path, HubOptions(**where), agree=broadcast_from_process_0
    )
    return run_on_all_processes(find, alone=False)


def configuration(name_or_path: str | os.PathLike, **where: Any) -> str:
    """The folder or file that has a configuration: of a repository, in the cache."""
    if os.path.exists(name_or_path):
        return os.fspath(name_or_path)
    return locate(name_or_path, **where).folder


def named(call: str, args: Sequence[Any], options: dict[str, Any]) -> tuple[Any, tuple[Any, ...]]:
    """(where the checkpoint is, the other arguments by position); taken out of `options`, where it
    may have Transformers' name.

    Raises:
        TypeError: nothing says where, or two do.
    """
    names = [n for n in ("pretrained_model_name_or_path", "name_or_path") if n in options]
    if len(names) + bool(args) > 1:
        raise TypeError(f"{call} got the name of the checkpoint twice, as {names[-1]} too")
    if not args and not names:
        raise TypeError(f"{call} needs name_or_path: a folder, a repository, a file, or None")
    return (args[0], tuple(args[1:])) if args else (options.pop(names[0]), ())


def requested(
    cls: type[Model], call: str, args: Sequence[Any], options: Mapping[str, Any]
) -> Request:
    """What a call of `from_pretrained` asks for, by position after the checkpoint's name and by
    keyword.

    Raises:
        TypeError: a keyword that asks for what is not done here, more fields than there are, or
            one given twice.
    """
    names = field_names(cls)
    known = {*LOAD, *names, *config_names(cls.config_class)}
    options = keywords.ours(options, known, cls.__name__, call)
    if len(args) > len(names):
        raise TypeError(
            f"{call} takes {len(names)} fields of the model by position ({', '.join(names)}), got "
            f"{len(args)}"
        )
    fields = dict(zip(names, args, strict=False))
    if twice := sorted(fields.keys() & options.keys()):
        raise TypeError(f"{call} got {', '.join(twice)} by position and by keyword; give one")
    return Request.of(options | fields)


def _info(plan: LoadPlan, revision: str | None, seconds: float) -> LoadingInfo:
    match = plan.match
    return LoadingInfo(
        missing_keys=list(match.missing),
        unexpected_keys=list(match.unexpected),
        mismatched_keys=[(bad.path, bad.found, bad.expected) for bad in match.mismatched],
        error_msgs=[],
        plan=plan,
        revision=revision,
        bytes_read={file.path: file.bytes_read for file in match.source.files},
        seconds=seconds,
    )


def _is_local(mesh: Mesh | None, shardings: Any) -> bool:
    """Whether all devices that params go to are this process's own."""
    if mesh is not None:
        fs.check_mesh(mesh, abstract=True)
        return isinstance(mesh, jax.sharding.AbstractMesh) or not mesh.is_multi_process
    return all(sharding.is_fully_addressable for sharding in jax.tree.leaves(shardings))


def load_tf(model: Model, path: str, **placement: Any) -> Any:
    """The params of a TensorFlow checkpoint; see `PretrainedModel.load_tf_weights`."""
    plan = plan_load(model, fp.open_checkpoint(path, framework="tf"), **placement)
    source, missing = plan.match.source, plan.match.missing
    if missing:
        raise fp.CheckpointError(
            f"{source.where}: not in the checkpoint: {some(missing)}; from_pretrained "
            "initialises the leaves of a new head"
        )
    return stream(plan, progress=False)


def _initialised(
    model: Model, paths: tuple[str, ...], request: Request, plan: LoadPlan
) -> dict[str, Any]:
    """The leaves at `paths` of `model.init_params(key)`; as "auto" in the dtype of those that are
    loaded, if they have one, else in float32."""
    key = jax.random.key(0) if request.key is None else request.key
    dtype, shardings = request.param_dtype, request.shardings
    if isinstance(dtype, str) and dtype == "auto":
        loaded = {leaf.dtype for leaf in plan.leaves if jnp.issubdtype(leaf.dtype, jnp.floating)}
        dtype = loaded.pop() if len(loaded) == 1 else None
    dtype = jnp.float32 if dtype is None else dtype
    template = model.abstract_params(dtype)
    if request.mesh is not None:
        shardings = fs.shardings(template, request.mesh, model.rules)
    template = fp.flatten(template)
    wanted = fp.unflatten({path: template[path] for path in paths})
    if shardings is not None and not isinstance(shardings, jax.sharding.Sharding):
        given = fp.flatten(shardings)
        shardings = fp.unflatten({path: given[path] for path in paths})
    init = functools.partial(drawn, model, wanted)
    return jax.jit(init, out_shardings=shardings)(key)


def _warn(cls: type[Model], match: Match) -> None:
    where, name = match.source.where, cls.__name__
    if match.said:
        warn(f"{where}: {match.said}")
    if fresh := [*match.missing, *(bad.path for bad in match.mismatched)]:
        warn(
            f"Weights from {name} not initialized from pretrained model {where}: "
            f"{some(fresh)}. Train it on a downstream task before using it."
        )
    if match.unexpected:
        warn(f"Weights from {where} not used in {name}: {some(match.unexpected)}")
