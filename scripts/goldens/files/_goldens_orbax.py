"""Make the orbax checkpoints under tests/goldens/formats/orbax with the real library.

Run by hand, once in each of two environments; each rewrites its own folders:

    python scripts/goldens/files/_goldens_orbax.py tests/goldens/formats/orbax

Last run with orbax-checkpoint 0.12.8, jax 0.10.2 (`new-*`), and with orbax-checkpoint 0.5.16,
jax 0.4.28, tensorstore 0.1.63 (`old-*`); `versions.json` in each folder names them. orbax 0.5.16
cannot save with jax 0.4.13, which Transformers' Flax models ran on. `expected.json` holds
{path: [dtype, shape, bytes in hexadecimal]}.
"""

import json
import os
import shutil
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
os.environ["JAX_PLATFORMS"] = "cpu"

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import orbax.checkpoint as ocp  # noqa: E402
from jax.sharding import Mesh, NamedSharding, PartitionSpec  # noqa: E402

NEW = int(version("jax").split(".")[1]) >= 10
ON_DEVICE = (
    "bfloat16 float16 float32 float8_e4m3fn float8_e5m2 float8_e4m3b11fnuz float8_e4m3fnuz "
    "float8_e5m2fnuz complex64 int8 int16 int32 uint8 uint16 uint32 bool"
).split() + (["int4", "float8_e3m4"] if NEW else [])
ON_HOST = "float64 int64 uint64 complex128".split()


def values(dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    small = np.arange(np.prod(shape, dtype=int)).reshape(shape) % 7
    return small.astype(jnp.dtype(dtype))


def sharded(shape: tuple[int, ...], *axes: str | None, dtype: str = "float32") -> jax.Array:
    mesh = Mesh(np.array(jax.devices()).reshape(4, 2), ("a", "b"))
    spec = PartitionSpec(*axes)
    return jax.device_put(values(dtype, shape), NamedSharding(mesh, spec))


def small_tree() -> dict[str, Any]:
    return {"model": {"kernel": jnp.asarray(values("float32", (3, 4))), "bias": jnp.ones(4)}}


def tree() -> dict[str, Any]:
    """A tree with every kind of node and of leaf."""
    return {
        "dtypes": {d: jnp.asarray(values(d, (2, 3))) for d in ON_DEVICE}
        | {d: values(d, (2, 3)) for d in ON_HOST},
        "layers": [{"w": jnp.zeros(3)}, {"w": jnp.ones(3)}],
        "pair": (jnp.full(2, 3.0), None),
        "nothing": {"dict": {}, "list": [], "none": None},
        "scalar": jnp.float32(2.5),
        "python": {"int": 3, "float": 1.5},
        "sharded": {
            "both": sharded((8, 6), "a", "b"),
            "columns": sharded((8, 6), None, "b", dtype="bfloat16"),
            "replicated": sharded((3,), None),
        },
    }


def expected(saved: Any) -> dict[str, tuple[str, list[int], str]]:
    flat = jax.tree_util.tree_flatten_with_path(saved)[0]
    arrays = {
        "/".join(str(getattr(key, "key", getattr(key, "idx", key))) for key in path): leaf
        for path, leaf in flat
    }
    return {
        path: (str(array.dtype), list(array.shape), array.tobytes().hex())
        for path, array in ((path, np.asarray(leaf)) for path, leaf in arrays.items())
    }


def write(folder: Path, saved: Any, save) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    save((folder / "checkpoint").absolute())
    (folder / "expected.json").write_text(json.dumps(expected(saved), indent=0) + "\n")
    packages = ("jax", "orbax-checkpoint", "tensorstore")
    versions = {package: version(package) for package in packages}
    (folder / "versions.json").write_text(json.dumps(versions) + "\n")


def save_pytree(path: Path, saved: Any, *, save_args: Any = None, **kwargs: Any) -> None:
    ocp.Checkpointer(ocp.PyTreeCheckpointHandler(**kwargs)).save(path, saved, save_args=save_args)


def save_steps(path: Path, saved: Any) -> None:
    """Steps 2 and 10, the tree in the latter."""
    with ocp.CheckpointManager(path) as manager:
        manager.save(2, args=ocp.args.StandardSave(small_tree()))
        manager.save(10, args=ocp.args.StandardSave(saved))


def save_items(path: Path, saved: Any) -> None:
    """One step with a tree called `state` and something else."""
    with ocp.CheckpointManager(path, item_names=("state", "extra")) as manager:
        parts = {"state": ocp.args.StandardSave(saved), "extra": ocp.args.JsonSave({"a": 1})}
        manager.save(1, args=ocp.args.Composite(**parts))


def make(folder: Path) -> None:
    age = "new" if NEW else "old"
    whole, small = tree(), small_tree()
    write(folder / f"{age}-ocdbt", whole, lambda path: save_pytree(path, whole))
    write(folder / f"{age}-folders", small, lambda path: save_pytree(path, small, use_ocdbt=False))
    write(folder / f"{age}-zarr3", whole, lambda path: save_pytree(path, whole, use_zarr3=True))
    write(folder / f"{age}-steps", small, lambda path: save_steps(path, small))
    write(folder / f"{age}-items", small, lambda path: save_items(path, small))
    if not NEW:
        inline = {"few": small, "list": [jnp.ones(2), None], "apart": sharded((8, 6), "a", "b")}
        where = jax.tree_util.tree_map(lambda leaf: ocp.SaveArgs(aggregate=leaf.ndim < 2), inline)
        write(folder / "old-aggregate", inline, lambda p: save_pytree(p, inline, save_args=where))


if __name__ == "__main__":
    make(Path(sys.argv[1]))
