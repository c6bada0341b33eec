"""Loading: resolve -> open -> reconcile -> plan -> stream; each step's result can be printed."""

import contextlib
import dataclasses
import functools
import os
import time
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from . import params as fp
from . import sharding as fs
from .config import CONFIG_NAME, Config
from .hub import Found, proxied, resolve
from .planning import build, plan_load

if TYPE_CHECKING:
    from .base import PretrainedModel


@dataclasses.dataclass(frozen=True)
class LoadingInfo:
    """What a load found: paths of leaves, names of tensors.

    Attributes:
        missing_keys: leaves that the checkpoint does not have; they were initialised.
        unexpected_keys: tensors of the checkpoint that the model has no place for.
        mismatched_keys: (path, shape in the checkpoint, shape in the model) of leaves that were
            initialised because `ignore_mismatched_sizes` was set.
        error_msgs: empty: an error is raised, not collected.
        plan: the `fp.LoadPlan` that was carried out.
        revision: the commit that the files are of, where they come from the Hub.
        bytes_read: {file: bytes}, headers included.
        seconds: that reading and placing the weights took.
    """

    missing_keys: list[str]
    unexpected_keys: list[str]
    mismatched_keys: list[tuple[str, tuple[int, ...], tuple[int, ...]]]
    error_msgs: list[str]
    plan: fp.LoadPlan
    revision: str | None
    bytes_read: dict[str, int]
    seconds: float


def load(
    cls: "type[PretrainedModel]",
    name_or_path: str | os.PathLike | Found | None,
    *,
    config: Config | str | os.PathLike | None = None,
    dtype: Any = jnp.float32,
    param_dtype: Any = "auto",
    mesh: Mesh | None = None,
    rules: fs.Rules | None = None,
    shardings: Any = None,
    max_host_memory: int = 1 << 30,
    strict: bool = True,
    ignore_mismatched_sizes: bool = False,
    key: jax.Array | None = None,
    output_loading_info: bool = False,
    state_dict: Mapping[str, Any] | None = None,
    use_safetensors: bool | None = None,
    from_pt: bool = False,
    from_tf: bool = False,
    from_flax: bool = False,
    variant: str | None = None,
    weights_only: bool = True,
    key_mapping: Mapping[str, str] | None = None,
    verify: bool = False,
    subfolder: str = "",
    revision: str = "main",
    token: str | bool | None = None,
    cache_dir: str | os.PathLike | None = None,
    local_files_only: bool = False,
    force_download: bool = False,
    proxies: Mapping[str, str] | None = None,
    progress: bool = True,
    **kwargs: Any,
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
            name, or an ordered `{regular expression on the path: dtype}`.
        mesh: place every leaf on it by `rules`; this process reads only what its devices hold.
        rules: logical axes -> mesh axes; `fs.DEFAULT_RULES` if None.
        shardings: instead of `mesh`: a tree of `jax.sharding.Sharding`, or one for all leaves.
        max_host_memory: bytes of host memory to use beyond the finished params.
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
            repository, and whether to fetch it again, as in `huggingface_hub`. Two old names give
            a warning: use_auth_token is token, and resume_download is ignored.
        proxies: {"http" | "https" | "http://host": "host:port"}, used by this whole process until
            the load ends.
        progress: show a bar if it takes longer than a second.
        **kwargs: fields of the model (`scan_layers`, `remat`, `attn_implementation`), and, unless
            `config` is given, fields of the configuration, which they override.

    Raises:
        fp.CheckpointError: a checkpoint that cannot be read, or is not this model's.
        ConfigError: a configuration that cannot be honoured.
        TypeError: a keyword that is neither a field of the model nor of its configuration.
    """
    if verify and state_dict is not None:
        raise TypeError("verify compares files, and state_dict has none; give one of them")
    how = {
        "use_safetensors": use_safetensors,
        "framework": _framework(from_pt, from_tf, from_flax),
        "variant": variant,
    }
    where = {
        "mesh": mesh,
        "shardings": shardings,
        "subfolder": subfolder,
        "revision": revision,
        "token": token,
        "cache_dir": cache_dir,
        "local_files_only": local_files_only,
        "force_download": force_download,
        "proxies": proxies,
        "progress": progress,
    }
    found = None
    if name_or_path is not None:
        found = locate(name_or_path, **where)
    elif not isinstance(config, Config) or state_dict is None:
        raise TypeError("without a name or path, from_pretrained needs config and state_dict")
    if config is not None and not isinstance(config, Config):
        config = configuration(config, **where)
    folder = found.folder if found else ""

    def prepare() -> "tuple[PretrainedModel, fp.Source]":
        with found.noting() if found else contextlib.nullcontext():
            model = build(cls, folder, config, dtype=dtype, rules=rules, **kwargs)
        if found is None or state_dict is not None:
            return model, fp.source_of(state_dict or {})
        return model, found.open(weights_only=weights_only, **how)

    def plan_one() -> "tuple[PretrainedModel, fp.LoadPlan]":
        # Only what is on the disk may be replaced meanwhile; a commit stays what it is.
        changes = found is not None and found.store is fp.LOCAL
        model, source = fp.settled(folder, prepare) if changes else prepare()
        if verify and found is not None:
            found.bring(source)
            fp.verify(source, os.path.join(folder, CONFIG_NAME))
        return model, plan_load(
            model,
            fp.renamed(source, key_mapping) if key_mapping else source,
            param_dtype=param_dtype,
            mesh=mesh,
            shardings=shardings,
            max_host_memory=max_host_memory,
            strict=strict,
            ignore_mismatched_sizes=ignore_mismatched_sizes,
        )

    # A process that cannot read its part must not leave the others waiting in the first step.
    together = functools.partial(fp.together, alone=_is_local(mesh, shardings))
    with proxied(proxies):
        model, plan = together(plan_one)
        start = time.perf_counter()
        params = together(lambda: fp.stream(plan, progress=progress))
        seconds = time.perf_counter() - start
    match = plan.match
    fresh = (*match.missing, *(bad.path for bad in match.mismatched))
    if fresh:
        key = jax.random.key(0) if key is None else key
        params = fp.merge(params, _initialised(model, key, fresh, param_dtype, mesh, shardings))
    _warn(cls, match)
    if not output_loading_info:
        return model, params
    return model, params, _info(plan, found and found.revision, seconds)


def locate(
    name_or_path: str | os.PathLike | Found,
    *,
    mesh: Mesh | None = None,
    shardings: Any = None,
    **where: Any,
) -> Found:
    """`resolve`, by all processes that the params are spread over: one of them says which commit
    of a repository it is to be, and an error of one is raised by all."""
    if _is_local(mesh, shardings):
        return resolve(name_or_path, **where)
    find = functools.partial(resolve, name_or_path, agree=fp.told_by_first, **where)
    return fp.together(find, alone=False)


def configuration(name_or_path: str | os.PathLike, **where: Any) -> str:
    """The folder or file that has a configuration: of a repository, in the cache."""
    if os.path.exists(name_or_path):
        return os.fspath(name_or_path)
    return locate(name_or_path, **where).folder


def renamed(options: Mapping[str, Any], *, stacklevel: int = 3) -> dict[str, Any]:
    """Keywords of a call with those of old calls replaced, aloud."""
    options = dict(options)
    said = functools.partial(warnings.warn, category=FutureWarning, stacklevel=stacklevel)
    if options.pop("resume_download", None) is not None:
        said("resume_download is ignored; leave it out")
    old = options.pop("use_auth_token", None)
    if old is not None:
        said("use_auth_token is now token; give token")
        if options.get("token") is not None:
            raise TypeError("use_auth_token is the old name of token; give token alone")
        options["token"] = old
    return options


def _info(plan: fp.LoadPlan, revision: str | None, seconds: float) -> LoadingInfo:
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


def _framework(from_pt: bool, from_tf: bool, from_flax: bool) -> str | None:
    asked = [name for name, on in (("pt", from_pt), ("tf", from_tf), ("flax", from_flax)) if on]
    if len(asked) > 1:
        raise TypeError(f"give one of {', '.join('from_' + name for name in asked)}, not all")
    return asked[0] if asked else None


def _is_local(mesh: Mesh | None, shardings: Any) -> bool:
    """Whether all devices that params go to are this process's own."""
    if mesh is not None:
        return not mesh.is_multi_process
    return all(sharding.is_fully_addressable for sharding in jax.tree.leaves(shardings))


def load_tf(model: "PretrainedModel", path: str, **placement: Any) -> Any:
    """The params of a TensorFlow checkpoint; see `PretrainedModel.load_tf_weights`."""
    plan = plan_load(model, fp.open_checkpoint(path, framework="tf"), **placement)
    source, missing = plan.match.source, plan.match.missing
    if missing:
        raise fp.CheckpointError(
            f"{source.where}: not in the checkpoint: {fp.some(missing)}; from_pretrained "
            "initialises the leaves of a new head"
        )
    return fp.stream(plan, progress=False)


def _initialised(
    model: "PretrainedModel", key: jax.Array, paths: tuple[str, ...], param_dtype, mesh, shardings
) -> dict[str, Any]:
    """The leaves at `paths` of `model.init_params(key)`."""
    dtype = jnp.float32 if param_dtype == "auto" else param_dtype
    template = fp.flatten(model.abstract_params(dtype))
    wanted = fp.unflatten({path: template[path] for path in paths})
    if mesh is not None:
        shardings = fs.shardings(wanted, mesh, model.rules)
    elif shardings is not None and not isinstance(shardings, jax.sharding.Sharding):
        given = fp.flatten(shardings)
        shardings = fp.unflatten({path: given[path] for path in paths})
    init = functools.partial(fp.initialize, wanted)
    return jax.jit(init, out_shardings=shardings)(key)


def _warn(cls: "type[PretrainedModel]", match: fp.Match) -> None:
    where, name = match.source.where, cls.__name__
    if fresh := [*match.missing, *(bad.path for bad in match.mismatched)]:
        warnings.warn(
            f"Weights from {name} not initialized from pretrained model {where}: "
            f"{fp.some(fresh)}. Train it on a downstream task before using it.",
            stacklevel=4,
        )
    if match.unexpected:
        warnings.warn(
            f"Weights from {where} not used in {name}: {fp.some(match.unexpected)}", stacklevel=4
        )
