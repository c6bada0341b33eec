"""Make the files under tests/goldens/formats/{flax,safetensors} with the real libraries.

Run by hand, once in each of two environments; each rewrites its own files:

    python scripts/goldens/files/_goldens_flax.py flax tests/goldens/formats/flax
    python scripts/goldens/files/_goldens_flax.py safetensors tests/goldens/formats/safetensors

Last run with flax 0.7.0, jax 0.4.13, numpy 1.26.4; and with safetensors 0.8.0, numpy 2.4.6. A file
of arrays has an `.expected.json` beside it: {path: [dtype, shape, bytes in hexadecimal]}.
"""

import json
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

NUMPY = (
    "float64 float32 float16 complex128 complex64 int64 int32 int16 int8 uint64 uint32 uint16 "
    "uint8 bool"
).split()
ML_DTYPES = (
    "bfloat16 float8_e4m3fn float8_e5m2 float8_e4m3b11fnuz float8_e4m3fnuz float8_e5m2fnuz "
    "float8_e8m0fnu"
).split()
SHAPES = {"matrix": (2, 3), "scalar": (), "empty": (0, 3)}


def values(dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    """Different numbers; infinity and NaN where there are any."""
    array = (np.arange(np.prod(shape, dtype=int)) + 1).reshape(shape).astype(dtype)
    if array.ndim == 2 and array.size and dtype.kind in "fcV":
        array[0, :2] = np.array([np.inf, np.nan]).astype(dtype)
    return array


def all_arrays(names: Sequence[str]) -> dict[str, dict[str, np.ndarray]]:
    dtypes = {
        n: np.dtype(getattr(ml_dtypes, n, n)) for n in names if n in NUMPY or hasattr(ml_dtypes, n)
    }
    return {
        name: {kind: values(dtype, shape) for kind, shape in SHAPES.items()}
        for name, dtype in dtypes.items()
    }


def expected(tree: Any, path: str = "") -> dict[str, Any]:
    if isinstance(tree, dict):
        items = ((f"{path}/{name}".lstrip("/"), child) for name, child in tree.items())
        return {leaf: said for name, child in items for leaf, said in expected(child, name).items()}
    array = np.asarray(tree)
    return {path: (array.dtype.name, array.shape, array.tobytes().hex())}


def put(folder: Path, name: str, content: bytes, tree: Any = None) -> None:
    (folder / name).write_bytes(content)
    if tree is not None:
        text = json.dumps(expected(tree), indent=0) + "\n"
        (folder / f"{Path(name).stem}.expected.json").write_text(text)


def make_flax(folder: Path) -> None:
    import flax.serialization as serialization
    import jax.numpy as jnp

    arrays = all_arrays(NUMPY + ML_DTYPES)
    put(folder, "dtypes.msgpack", serialization.to_bytes(arrays), arrays)
    numbers = {"float32": np.float32(1.5), "int64": np.int64(-7), "bool": np.bool_(True)}
    numbers |= {"complex64": np.complex64(1 + 2j)}
    put(folder, "numpy-scalars.msgpack", serialization.to_bytes(numbers), numbers)
    wrapped = {"params": {"layers": [jnp.ones(2), jnp.zeros((1, 2))], "w": (jnp.arange(3.0),)}}
    listed = {
        "params": {
            "layers": dict(enumerate(wrapped["params"]["layers"])),
            "w": {0: jnp.arange(3.0)},
        }
    }
    put(folder, "lists.msgpack", serialization.to_bytes(wrapped), listed)
    for name, leaf in {
        "int": 3,
        "float": 1.5,
        "complex": 1 + 2j,
        "bool": True,
        "text": "x",
    }.items():
        put(folder, f"python-{name}.msgpack", serialization.to_bytes({"a": {"w": leaf}}))
    put(folder, "python-none.msgpack", serialization.to_bytes({"a": {"w": None}}))
    serialization.MAX_CHUNK_SIZE = 64
    large = {"a": {"w": np.arange(150, dtype=np.float32).reshape(10, 15)}, "b": np.arange(5)}
    large["a"]["half"] = np.arange(99).astype(ml_dtypes.bfloat16)
    put(folder, "chunks.msgpack", serialization.to_bytes(large), large)


def make_safetensors(folder: Path) -> None:
    from safetensors.numpy import save

    known = [name for name in NUMPY + ML_DTYPES if name not in ("complex128", "float8_e4m3b11fnuz")]
    tree = all_arrays(known)
    flat = {
        f"{dtype}.{kind}": array for dtype, kinds in tree.items() for kind, array in kinds.items()
    }
    put(folder, "dtypes.safetensors", save(flat, {"format": "pt"}), flat)


def make(kind: str, folder: Path) -> None:
    """Writes what `kind` ("flax" or "safetensors") makes of all dtypes into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (make_flax if kind == "flax" else make_safetensors)(folder)
    packages = ("flax", "jax", "numpy") if kind == "flax" else ("safetensors", "numpy")
    versions = {package: version(package) for package in (*packages, "ml_dtypes")}
    (folder / "versions.json").write_text(json.dumps(versions) + "\n")


if __name__ == "__main__":
    make(sys.argv[1], Path(sys.argv[2]))
