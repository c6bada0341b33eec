"""The files of sentence-transformers beside a model: which modules there are, and their settings.

Nothing of a file is imported or run: a module is known by the last name of its class, and one that
is not known is an error.
"""

import dataclasses
import os
from collections.abc import Mapping

from .. import params as fp
from ..documents.json_files import read_json
from ..documents.json_values import Json
from ..hub import Location, companions
from ..params import strict_json
from ..params.errors import quoted, some, warn
from ..params.formats import LocalFile, check_size, is_plain
from .layers import Dense, Layer, LayerNorm, Normalize, activation_name
from .pooling import MODES, Pooling

MODULES = "modules.json"
SETTINGS = "config_sentence_transformers.json"
BERT_CONFIG = "sentence_bert_config.json"
_MOST = 1 << 20  # bytes of a list of modules
_PACKAGE = "sentence_transformers."
OLD_MODES = {  # flags of a pooling -> its modes; in their order
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


@dataclasses.dataclass(frozen=True)
class Module:
    """A line of `modules.json`: its name, the class without its package, and its folder."""

    name: str
    kind: str
    path: str


@dataclasses.dataclass(frozen=True)
class Files:
    """The files of sentence-transformers in a folder, on the disk.

    Attributes:
        folder: where they are.
        names: those that there are, by their paths in the folder.
    """

    folder: str
    names: frozenset[str]

    @classmethod
    def of(cls, location: Location) -> "Files":
        """Finds the files, and downloads them where they are on the Hub."""
        with location.noting():
            files = companions(location.folder, location.store)
        return cls(location.folder, frozenset(file.name for file in files))

    def path(self, *names: str) -> str:
        return os.path.join(self.folder, *names)

    def json(self, *names: str) -> dict[str, Json]:
        """Reads an object; {} if there is no such file. Raises `ConfigError` as `read_json`."""
        if "/".join(filter(None, names)) not in self.names:
            return {}
        return read_json(self.path(*names))

    def modules(self) -> list[Module]:
        """Reads `modules.json`; without it, a model and the mean over its tokens.

        Raises:
            CheckpointError: no list of modules, or a module that is not known, by its class.
        """
        if MODULES not in self.names:
            warn(
                f"{self.folder}: no {MODULES}: the mean over tokens is taken, as "
                "sentence-transformers does"
            )
            return [Module("0", "Transformer", ""), Module("1", "Pooling", "")]
        file = LocalFile(self.path(MODULES))
        check_size(file.path, file.size, _MOST)
        try:
            listed = strict_json.loads(file.read(0, file.size))
        except ValueError as error:
            raise fp.CheckpointError(f"{file.path}: {error}") from None
        if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
            raise fp.CheckpointError(f"{file.path}: expected a list of modules, each an object")
        return [_module(one, file.path) for one in listed]


def _module(values: Mapping[str, object], where: str) -> Module:
    name, path, kind = (str(values.get(key, "")) for key in ("name", "path", "type"))
    if path and not is_plain(path):
        raise fp.CheckpointError(f"{where}: {quoted(path)} is no folder inside of this one")
    last = kind.rpartition(".")[2]
    if not kind.startswith(_PACKAGE) or last not in _KINDS:
        raise fp.CheckpointError(
            f"{where}: module {quoted(name)} is a {quoted(kind)}, which is not known (known are "
            f"{', '.join(_KINDS)} of sentence_transformers); nothing of it was fetched or run"
        )
    return Module(name, last, path)


_KINDS = ("Transformer", "Pooling", "Dense", "LayerNorm", "Normalize", "Dropout")


def read_pooling(files: Files, module: Module, hidden_size: int) -> Pooling:
    """Reads a pooling's modes, as sentence-transformers 5.7 does.

    Several stand side by side in the embedding: in the order of the list `pooling_mode`, or in that
    of `OLD_MODES`. Where all flags are off, the mean is taken, with a warning.

    Raises:
        CheckpointError: a mode that there is not, or a `pooling_mode` of none.
    """
    values, path = files.json(module.path, "config.json"), files.path(module.path, "config.json")
    if "pooling_mode" in values:
        given = values["pooling_mode"]
        modes = given if isinstance(given, list) else [given]
        if given is None or not modes:
            raise fp.CheckpointError(
                f"{path}: pooling_mode is empty; expected one or several of {', '.join(MODES)}"
            )
    else:
        modes = [mode for flag, mode in OLD_MODES.items() if values.get(flag)]
        if not modes and any(flag in values for flag in OLD_MODES):
            warn(f"{path}: no mode of pooling is on: the mean over tokens is taken")
        modes = modes or ["mean"]
    if odd := [mode for mode in modes if mode not in MODES]:
        raise fp.CheckpointError(
            f"{path}: {some(map(quoted, odd))}: no mode of pooling; there are {', '.join(MODES)}"
        )
    width = values.get("embedding_dimension", values.get("word_embedding_dimension"))
    if width not in (None, hidden_size):
        warn(f"{path}: it is of vectors of width {width}, and the model's are of {hidden_size}")
    return Pooling(tuple(modes), bool(values.get("include_prompt", True)))


def read_layer(files: Files, module: Module, width: int) -> tuple[Layer | None, fp.Params]:
    """Reads a module after the pooling -> (what it is, its leaves); None for dropout, which does
    nothing to an embedding.

    Args:
        width: of the vectors that enter it.

    Raises:
        CheckpointError: weights that are not there, or of another shape than the module's; a
            module that takes vectors of another width.
    """
    if module.kind == "Normalize":
        return Normalize(), {}
    if module.kind == "Dropout":
        return None, {}
    values, path = files.json(module.path, "config.json"), files.path(module.path, "config.json")
    if module.kind == "LayerNorm":
        layer, names = LayerNorm(_size(values, "dimension", path)), {"scale": "norm.weight"}
        names["bias"], entering = "norm.bias", layer.features
    else:
        layer = _dense(values, path)
        names, entering = {"kernel": "linear.weight", "bias": "linear.bias"}, layer.in_features
    if entering != width:
        raise fp.CheckpointError(
            f"{path}: it takes vectors of {entering} features, and those before it have {width}"
        )
    return layer, _leaves(files.path(module.path), layer, names)


def _dense(values: Mapping[str, object], path: str) -> Dense:
    places = {values.get(f"module_{end}_name") for end in ("input", "output")}
    if odd := places - {None, "sentence_embedding"}:
        raise fp.CheckpointError(
            f"{path}: a projection of {some(map(quoted, odd))}; one of sentence_embedding is read"
        )
    act = values.get("activation_function", "torch.nn.modules.activation.Tanh")
    return Dense(
        _size(values, "in_features", path),
        _size(values, "out_features", path),
        bool(values.get("bias", True)),
        activation_name(act, path),
    )


def number_of(values: Mapping[str, object], key: str, path: str) -> int | None:
    """Returns a whole number from 1 on out of a file; None where it has none, or null."""
    value = values.get(key)
    if value is not None and (type(value) is not int or value < 1):
        raise fp.CheckpointError(f"{path}: {key} is {quoted(value)}; expected a number from 1 on")
    return value


def _size(values: Mapping[str, object], key: str, path: str) -> int:
    if (size := number_of(values, key, path)) is None:
        raise fp.CheckpointError(f"{path}: {key} is not there; expected a number of features")
    return size


def _leaves(folder: str, layer: Dense | LayerNorm, names: Mapping[str, str]) -> fp.Params:
    source = fp.open_checkpoint(folder)
    leaves = {}
    for leaf, shape in layer.shapes.items():
        tensor = source[names[leaf]]
        if tensor.shape != shape[::-1]:
            raise fp.CheckpointError(
                f"{source.where}: {quoted(tensor.name)} has shape {tensor.shape}; its config.json "
                f"says {shape[::-1]}"
            )
        leaves[leaf] = tensor.read().T
    if more := sorted(source.tensors.keys() - {names[leaf] for leaf in layer.shapes}):
        raise fp.CheckpointError(f"{source.where}: {some(map(quoted, more))}: of no use to it")
    return leaves
