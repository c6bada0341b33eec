"""Writes the files with names of `tests/corpus`: good small ones, and of the tests' tables of bad
ones the first of each row. The others there, called by their checksums, `fuzz.py` has found.

    .venv/bin/python scripts/fuzzing/fuzz_seeds.py
"""

import io
import json
import re
import sys
import zipfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [
    str(ROOT / "tests" / room) for room in ("helpers", "config", "checkpoints", "params/formats")
]

import _files  # noqa: E402
import _gguf  # noqa: E402
import _paths  # noqa: E402
import _tf  # noqa: E402
import _torch_bad  # noqa: E402
import _torch_files  # noqa: E402
import test_config  # noqa: E402
import test_folder  # noqa: E402
import test_gguf  # noqa: E402
import test_gguf_models  # noqa: E402
import test_msgpack  # noqa: E402
import test_orbax  # noqa: E402
import test_safetensors  # noqa: E402
import test_tensorflow  # noqa: E402
from _fuzz_targets import TF_MARK  # noqa: E402

_LONGEST = 4096
_TORCH = _paths.GOLDENS / "formats" / "torch"
_BAD = {name: content for name, (content, _) in (_torch_bad.BAD | _torch_bad.ODD).items()}
_ARCHIVES = re.compile(r"P(18|19|27|29|3\d)")  # rows that are not of pickles


def main() -> None:
    for target, seeds in made().items():
        folder = ROOT / "tests" / "corpus" / target
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in seeds.items():
            if len(content) <= _LONGEST:
                (folder / name).write_bytes(content)


def made() -> dict[str, dict[str, bytes]]:
    """Target -> name -> file."""
    return {
        "safetensors": _contents(_first(test_safetensors.BAD))
        | _contents(test_safetensors.GOOD)
        | {"dtypes": _safetensors()},
        "index": _texts(test_folder.BAD_INDEX) | _indexes(),
        "msgpack": _contents(_first(test_msgpack.BAD))
        | _contents(test_msgpack.ODD)
        | {"chunked": test_msgpack.chunked()},
        "gguf": _contents(_first(test_gguf.BAD))
        | _contents(test_gguf.GOOD)
        | {"blocks": (_paths.GOLDENS / "gguf" / "blocks.gguf").read_bytes()},
        "gguf-model": {"good": _gguf.llama()} | _contents(_first(test_gguf_models.BAD)),
        "torch-zip": _first({n: c for n, c in _BAD.items() if _ARCHIVES.match(n)})
        | _goldens(legacy=False)
        | {"good": _torch_bad.ZIP},
        "torch-legacy": {n: c for n, c in _BAD.items() if re.match("P37-(keys|huge|view)", n)}
        | _goldens(legacy=True)
        | {"good": _torch_files.legacy()},
        "pickle": _pickles(_first({n: c for n, c in _BAD.items() if not _ARCHIVES.match(n)}))
        | _pickles({n: c for n, c in _goldens(legacy=False).items() if "protocol" in n}),
        "tf-table": _tf_tables(),
        "tf-entries": _tf_entries(),
        "h5-answer": _h5_answers(),
        "orbax-tree": _orbax_trees(),
        "orbax-aggregate": {
            path.parents[1].name: path.read_bytes()
            for path in _paths.GOLDENS.glob("formats/orbax/*/checkpoint/checkpoint")
        }
        | _contents(_first(test_msgpack.BAD)),
        "zarr-2": _zarrs(test_orbax.ZARRAY, ".zarray"),
        "zarr-3": _zarrs(test_orbax.ZARR3, "zarr.json"),
        "checksums": {
            "good": b'{"sha256": {"config.json": "%s"}}' % (b"0" * 64),
            "empty": b'{"sha256": {}}',
            "number": b'{"sha256": {"a": 1}}',
            "list": b'{"sha256": []}',
            "twice": b'{"sha256": {"a": "", "a": ""}}',
        },
        "config": _configs(),
    }


def _first(table: dict) -> dict:
    """The first of the rows that share a number."""
    found = {}
    for name, row in table.items():
        found.setdefault(name.partition("-")[0], (name, row))
    return dict(found.values())


def _contents(table: dict) -> dict[str, bytes]:
    return {name: row[0] for name, row in table.items()}


def _texts(table: dict) -> dict[str, bytes]:
    return {n: c.encode() if isinstance(c, str) else c for n, c in _contents(table).items()}


def _safetensors() -> bytes:
    arrays = [np.zeros((2, 1), dtype) for dtype in test_safetensors.DTYPES.values()]
    header, position = {}, 0
    for name, array in zip(test_safetensors.DTYPES, arrays, strict=True):
        header[name] = _files.entry(name, (2, 1), (position, position + array.nbytes))
        position += array.nbytes
    return _files.safetensors(header, bytes(position))


def _indexes() -> dict[str, bytes]:
    """Of shards that the target's folder holds, or that lead out of it."""
    shards = {
        "one": {"a": "a"},
        "two": {"a": "a", "b": "b"},
        "wrong": {"a": "b"},
        "out": {"a": "out"},
        "loop": {"a": "loop"},
        "folder": {"a": "folder"},
        "parent": {"a": "../a"},
        "absolute": {"a": "/etc/hostname"},
    }
    return {
        name: json.dumps(
            {
                "metadata": {"total_size": 8},
                "weight_map": {k: f"{v}.safetensors" for k, v in map.items()},
            }
        ).encode()
        for name, map in shards.items()
    }


def _goldens(*, legacy: bool) -> dict[str, bytes]:
    """Of torch.save, without those that are much alike."""
    paths = [p for p in sorted(_TORCH.iterdir()) if p.suffix in (".bin", ".pt", ".pth")]
    wanted = re.compile("(?!refused|protocol-[34])|refused-(sparse|quantised|module)")
    return {
        p.name: p.read_bytes()
        for p in paths
        if ("legacy" in p.name) == legacy and wanted.match(p.name)
    }


def _pickles(files: dict[str, bytes]) -> dict[str, bytes]:
    """The pickles in those that are archives."""
    found = {}
    for name, content in files.items():
        if zipfile.is_zipfile(io.BytesIO(content)):
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                inside = [n for n in archive.namelist() if n.endswith("data.pkl")]
                if inside and archive.getinfo(inside[0]).file_size <= _LONGEST:
                    try:
                        found[name] = archive.read(inside[0])
                    except (zipfile.BadZipFile, RuntimeError, NotImplementedError):
                        continue
    return found


def _tf_tables() -> dict[str, bytes]:
    folder = _paths.GOLDENS / "formats" / "tf"
    good = {path.parent.name: path.read_bytes() for path in folder.glob("*/*.index")}
    tables = {n: row for n, row in test_tensorflow.BAD.items() if isinstance(row[0], bytes)}
    return good | _contents(tables)


def _tf_entries() -> dict[str, bytes]:
    good = test_tensorflow.rows(), test_tensorflow.called(a="b", c="")[0]
    rows = {f"good-{i}": (index, "") for i, index in enumerate(good)}
    rows |= _first({n: r for n, r in test_tensorflow.BAD.items() if isinstance(r[0], dict)})
    return {
        name: TF_MARK.join(part for item in ({b"": _tf.header()} | row[0]).items() for part in item)
        for name, row in rows.items()
    }


def _orbax_trees() -> dict[str, bytes]:
    tree_of = test_orbax.tree_of
    paths = _paths.GOLDENS.glob("formats/orbax/*/checkpoint/_METADATA")
    trees = {
        "good": tree_of("a/w", "b"),
        "outside": tree_of("../a"),
        "twice": tree_of("a/b", "a.b"),
        "empty": tree_of("a", kind="Dict"),
        "kind": tree_of("a", kind="str"),
        "flags": tree_of("a", use_ocdbt=1),
        "none": {},
    }
    good = {path.parents[1].name: path.read_bytes() for path in paths}
    return good | {name: json.dumps(tree).encode() for name, tree in trees.items()}


def _zarrs(good: dict, name: str) -> dict[str, bytes]:
    """Good metadata, that of the goldens, and with one thing changed."""
    paths = _paths.GOLDENS.glob(f"formats/orbax/*/checkpoint/*/{name}")
    found = {path.parent.name: path.read_bytes() for path in paths}
    shard = {"chunk_shape": [2], "codecs": good.get("codecs"), "index_codecs": good.get("codecs")}
    changes = {
        "good": {},
        "huge": {"shape": [2**62], "chunks": [2**62]},
        "zero": {"chunks": [0]},
        "gzip": {"compressor": {"id": "gzip", "level": 5}},
        "zstd": {"compressor": {"id": "zstd", "level": 1}},
        "blosc": {"compressor": {"id": "blosc"}},
        "object": {"dtype": "|O", "data_type": "object"},
        "order": {"order": "F", "dimension_separator": "/"},
        "sharded": {"codecs": [{"name": "sharding_indexed", "configuration": shard}]},
        "codecs": {"codecs": [{"name": "transpose", "configuration": {"order": [0]}},
                              {"name": "bytes"}, {"name": "gzip"}, {"name": "crc32c"}]},
    }  # fmt: skip
    made = {change: json.dumps(good | what).encode() for change, what in changes.items()}
    return found | made


def _h5_answers() -> dict[str, bytes]:
    row = ["a", [2, 2], "float32", 0, 16]
    answers = {
        "good": [row, ["b", [], "int64", 56, 8], ["c", [0, 3], "bool", 64, 0]],
        "refused": "not HDF5, or damaged: \x1b[2J",
        "short": [row[:4]],
        "past-the-end": [[*row[:3], 60, 16]],
        "negative": [["a", [-1, -4], "float32", 0, 16]],
        "huge": [["a", [0, 2**62], "float32", 0, 0]],
        "rank-40": [["a", [1] * 40, "uint8", 0, 1]],
        "twice": [row, row],
        "dtype": [["a", [1], "object", 0, 8]],
        "null": None,
    }
    return {name: json.dumps(answer).encode() for name, answer in answers.items()}


def _configs() -> dict[str, bytes]:
    folders = sorted(
        {p.parent.parent.name: p for p in _paths.GOLDENS.glob("*/checkpoint/config.json")}.items()
    )
    wanted = ("bert-token", "gpt2-token", "gpt2-scale", "llama-rope", "llama-v4", "llama-head")
    good = {name: path.read_bytes() for name, path in folders if name.startswith(wanted)}
    llama = {
        name: json.dumps({"model_type": "llama", **test_config.LLAMA, **row[0]}).encode()
        for name, row in test_config.BAD_LLAMA.items()
    }
    return good | _contents(test_config.BAD_JSON) | _first(llama)


if __name__ == "__main__":
    main()
