"""Forward passes compiled ahead of time: one program for each kind of arguments, kept on disk."""

import contextlib
import hashlib
import os
import stat
import tempfile
import threading
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
from jax.core import Tracer
from jax.experimental import serialize_executable
from jax.experimental.compilation_cache.compilation_cache import reset_cache
from jax.sharding import Mesh, NamedSharding

from .. import params as fp
from ..blocks import Cache, as_flag
from ..calls.arguments import split
from ..core.model import Model
from ..params.errors import warn
from ..params.types import PyTree


class CompiledCall:
    """Calls `model.apply` as compiled programs: `compiled(params, input_ids, ...)`.

    One program is compiled for each combination of shapes, dtypes, shardings and other arguments,
    at its first call, and used from then on; nothing is traced again. For arguments that vary a lot
    (a prefill of any length) `jax.jit(model.apply)` with padded lengths is better.

    Attributes:
        programs: {key: executable} of what has been compiled or read so far.
    """

    def __init__(
        self,
        model: Model,
        *,
        donate_cache: bool = False,
        compiler_options: Mapping[str, str | bool] | None = None,
        folder: str | os.PathLike | None = None,
    ):
        """Keeps the options; compiles nothing yet.

        Args:
            donate_cache: the argument `cache` gives its memory to the cache that is returned.
            compiler_options: of XLA.
            folder: where programs are kept for the next process; made if absent. JAX unpickles
                them: files that others may write are refused.
        """
        options = {} if compiler_options is None else compiler_options
        kinds = str | bool | int | float
        if not isinstance(options, Mapping) or any(
            not isinstance(name, str) or not isinstance(value, kinds)
            for name, value in options.items()
        ):
            raise TypeError(
                f"compiler_options is {options!r:.200}; expected {{option of XLA: a text, a bool "
                "or a number}"
            )
        if not isinstance(folder, str | os.PathLike | None):
            raise TypeError(f"folder is {folder!r:.80}; expected the path of one, or None")
        self.model = model
        self.donate_cache = as_flag("donate_cache", donate_cache)
        self.compiler_options = dict(options)
        self.folder = None if folder is None else Path(folder)
        self.programs: dict[str, jax.stages.Compiled] = {}
        fixed = (self.donate_cache, sorted(self.compiler_options.items()))
        host = (jax.__version__, metadata.version("jaxlib"), str(jax.devices()))
        self._identity = repr((model, fixed, host))

    def __call__(
        self, params: fp.Params, *args: object, cache: Cache | None = None, **kwargs: object
    ) -> PyTree:
        if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((params, args, cache, kwargs))):
            given = kwargs if cache is None else {"cache": cache, **kwargs}
            # the call becomes a part of the program that is being traced
            return self.model.apply({"params": params}, *args, **given)
        arrays, rebuild = split((args, kwargs))
        others = rebuild([None] * len(arrays))
        key = self._key((params, cache, arrays), others)
        if key not in self.programs:

            def forward(params: fp.Params, cache: Cache | None, arrays: list[jax.Array]) -> PyTree:
                args, kwargs = rebuild(arrays)
                given = kwargs if cache is None else {"cache": cache, **kwargs}
                return self.model.apply({"params": params}, *args, **given)

            donated = ("cache",) if self.donate_cache and cache is not None else ()
            jitted = jax.jit(forward, donate_argnames=donated)
            self.programs[key] = self._load_or_compile(key, jitted, (params, cache, arrays))
        return self.programs[key](params, cache, arrays)

    def _key(self, arguments: fp.PyTree, others: object) -> str:
        leaves, structure = jax.tree.flatten(arguments)
        described = [(x.shape, str(x.dtype), str(getattr(x, "sharding", ""))) for x in leaves]
        text = repr((self._identity, str(structure), described, others))
        return hashlib.sha256(text.encode()).hexdigest()

    def _load_or_compile(
        self, key: str, jitted: jax.stages.Wrapped, arguments: fp.PyTree
    ) -> jax.stages.Compiled:
        path = None if self.folder is None else self.folder / f"{key}.xla"
        if path is not None and path.exists():
            _check_owner(path)
            given = jax.tree.structure((arguments, {}))
            result = jax.tree.structure(jax.eval_shape(jitted, *arguments))
            try:
                return serialize_executable.deserialize_and_load(
                    path.read_bytes(), given, result, execution_devices=_devices(arguments)
                )
            except Exception as error:  # pickle and XLA raise what they like
                reason = f"{type(error).__name__}: {str(error)[:200]}"
                warn(f"{path}: no program that can be read ({reason}); it is compiled again")
        options = self.compiler_options or None
        with contextlib.nullcontext() if path is None else _without_jax_cache():
            program = jitted.lower(*arguments).compile(compiler_options=options)
        if path is not None:
            _write(path, serialize_executable.serialize(program)[0])
        return program


_COMPILING = threading.Lock()


@contextlib.contextmanager
def _without_jax_cache() -> Iterator[None]:
    """Turns JAX's own cache of programs on disk off: on a CPU a program that was read from it is
    serialised without its functions, and the next process could not call it."""
    with _COMPILING:
        settings: Any = jax.config
        enabled = settings.jax_enable_compilation_cache
        try:
            settings.update("jax_enable_compilation_cache", False)
            reset_cache()  # JAX reads the setting once; this makes it read it again
            yield
        finally:
            settings.update("jax_enable_compilation_cache", enabled)
            reset_cache()


def _devices(arguments: fp.PyTree) -> list[jax.Device]:
    """Returns the devices that a program with these arguments runs on, in its order."""
    placed = [leaf.sharding for leaf in jax.tree.leaves(arguments) if isinstance(leaf, jax.Array)]
    for sharding in placed:
        if isinstance(sharding, NamedSharding) and isinstance(sharding.mesh, Mesh):
            return list(sharding.mesh.devices.flat)
    return list(placed[0].device_set) if placed else jax.devices()[:1]


def _check_owner(path: Path) -> None:
    for entry in (path, path.parent):
        info = entry.stat()
        if info.st_uid != os.getuid() or info.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise PermissionError(
                f"{entry}: others may write it, and a compiled program is code; use a folder of "
                "your own"
            )


def _write(path: Path, program: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        try:
            file.write(program)
            file.close()
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise
