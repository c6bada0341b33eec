"""`adapter_config.json` of PEFT: read, checked, kept and written again."""

import dataclasses
import json
import os
from collections.abc import Mapping
from typing import Any, Self

from ...errors import CheckpointError, quoted, some, warn
from ...formats.store import LOCAL, Store
from ...strict_json import Json
from ...tree.paths import nearest
from . import patterns
from .keys import CHANGES_BASE, KEPT, METHODS, NAMES, REFUSED
from .values import CHECKS, Names, Pattern, of_caller, plain, written

CONFIG_NAME = "adapter_config.json"
_MOST_BYTES = 4 << 20
_MERGE = "merge it into its base with peft's merge_and_unload(), and save that"


@dataclasses.dataclass(frozen=True, kw_only=True)
class PeftConfig:
    """Describes an adapter, in PEFT's words; its fields are keys of `adapter_config.json`.

    Attributes:
        peft_type: "LORA", "LOHA", "LOKR", "IA3" or "TRAINABLE_TOKENS".
        r: the rank.
        alpha: what the update is multiplied with, over the rank; `lora_alpha` in the file of LoRA.
        target_modules: which modules are adapted, by the names that PyTorch has for them:
            "all-linear", a regular expression on whole names, or ends of names.
        exclude_modules: the same of those that are not.
        layers_to_transform: numbers of layers; () for all.
        layers_pattern: names of the lists of layers that these count in; () for a name's first.
        rank_pattern, alpha_pattern: other ranks and alphas for modules whose name ends so.
        modules_to_save: ends of names of modules that are replaced as a whole.
        bias: which biases of the base are replaced: "none", "all", or "lora_only".
        fan_in_fan_out: the base stores kernels (in, out), as GPT-2 does; kept, and not read: the
            model knows.
        use_rslora: alpha is divided by the root of the rank.
        use_dora: kernels are decomposed into direction and magnitude.
        lora_bias: the update has a bias of its own.
        lora_dropout: the share of inputs that is dropped in training; see `fp.adapter_dropout`.
        trainable_token_indices: (end of a table's name, rows) of tables that have some rows
            replaced; the name is "" for the table of tokens.
        ensure_weight_tying: whether what is tied to an adapted table gets the same update.
        feedforward_modules: of IA3: those whose input is scaled, not the output.
        decompose_both, decompose_factor: how LoKr cuts a kernel.
        task_type: kept, and not read.
        base_model_name_or_path, revision: the base, a folder or a repository, which
            `from_pretrained` loads where none lies beside the adapter.
        extra: the other keys of the file, which are written again.
    """

    peft_type: str = "LORA"
    r: int = 8
    alpha: float = 8
    target_modules: Names = None
    exclude_modules: Names = None
    layers_to_transform: tuple[int, ...] = ()
    layers_pattern: tuple[str, ...] = ()
    rank_pattern: Pattern = ()
    alpha_pattern: Pattern = ()
    modules_to_save: tuple[str, ...] = ()
    bias: str = "none"
    fan_in_fan_out: bool = False
    use_rslora: bool = False
    use_dora: bool = False
    lora_bias: bool = False
    lora_dropout: float = 0.0
    trainable_token_indices: tuple[tuple[str, tuple[int, ...]], ...] = ()
    ensure_weight_tying: bool = False
    feedforward_modules: Names = None
    decompose_both: bool = False
    decompose_factor: int = -1
    task_type: str | None = None
    base_model_name_or_path: str | None = None
    revision: str | None = None
    extra: Mapping[str, Json] = dataclasses.field(default_factory=dict, hash=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.extra, Mapping):
            raise TypeError(f"PeftConfig: extra is {self.extra!r}; expected a dict of other keys")
        try:
            for field in dataclasses.fields(self):
                if field.name in CHECKS:
                    value = of_caller(field.name, getattr(self, field.name))
                    value = field.default if value is None else value
                    object.__setattr__(self, field.name, value)
            _refuse({**self.extra, "peft_type": self.peft_type}, "extra")
            for pattern in self._patterns():
                patterns.ends(pattern, "", 0)  # of one that is not followed the file is named
        except CheckpointError as error:
            raise ValueError(f"PeftConfig: {error}") from None
        if odd := NAMES[self.peft_type].keys() & self.extra.keys():
            raise ValueError(f"PeftConfig: extra has {min(odd)}; give it as a field")
        if reason := self._contradiction():
            raise ValueError(f"PeftConfig: {reason}")

    @classmethod
    def of(cls, given: object) -> Self:
        """Makes a configuration of what a caller gives: one, PEFT's own, or a mapping with its
        keys.

        Raises:
            TypeError: something else, or a key that PEFT does not know.
            CheckpointError: as `from_dict`.
        """
        if isinstance(given, cls):
            return given
        to_dict = getattr(given, "to_dict", None)
        values = to_dict() if callable(to_dict) else given
        if not isinstance(values, Mapping):
            raise TypeError(
                f"the configuration of an adapter is {type(given).__name__}; give fp.PeftConfig("
                "target_modules=..., r=...), or a dict of the keys of adapter_config.json"
            )
        values = {"peft_type": "LORA", **values}
        values = {key: plain(value) for key, value in values.items()}
        method = str(values["peft_type"])
        known = {**NAMES.get(method, {}), **KEPT.get(method, {})}
        odd = [str(key) for key in values if known and key not in known]
        if odd and to_dict is None:
            raise TypeError(
                f"{method} has no {quoted(odd[0])}{nearest(odd[0], known)}; leave out what PEFT "
                "does not know"
            )
        return cls.from_dict(values, "adapter_config")

    @classmethod
    def from_dict(cls, values: Mapping[str, Json], where: str = CONFIG_NAME) -> Self:
        """Makes a configuration of the content of `adapter_config.json`; keys that PEFT does not
        know are kept.

        Args:
            where: of the file, for errors.

        Raises:
            CheckpointError: a method or a field that changes the mathematics and is not done here,
                or a value that is not of its kind; with what to do.
        """
        method = values.get("peft_type")
        if method not in METHODS:
            raise CheckpointError(
                f"{where}: peft_type is {quoted(method)}; adapters of {', '.join(METHODS)} are "
                f"read. {_MERGE.capitalize()}, if the method can be merged"
            )
        names, kept = NAMES[method], KEPT[method]
        _refuse(values, where)
        fields: dict[str, Any] = {
            name: CHECKS[name](f"{where}: {key}", values[key])
            for key, name in names.items()
            if values.get(key) is not None
        }
        others = {key: value for key, value in values.items() if key not in names}
        # What a save writes anyway is no difference between two configurations.
        extra = {k: v for k, v in others.items() if k not in kept or kept[k] != v}
        unknown = [key for key in extra if key not in kept and extra[key] not in _EMPTY]
        if unknown:
            warn(
                f"{where}: {some(map(quoted, sorted(unknown)), 5)} is nothing that PEFT "
                f"0.21 knows of {method}; it is kept, and changes nothing"
            )
        try:
            return cls(**fields, extra=extra)
        except ValueError as error:
            raise CheckpointError(f"{where}: {str(error).removeprefix('PeftConfig: ')}") from None

    def to_dict(self) -> dict[str, Json]:
        """Returns the content of `adapter_config.json`: every key that PEFT writes, and those of
        `extra`."""
        names = NAMES[self.peft_type]
        values = {key: written(name, getattr(self, name)) for key, name in names.items()}
        return KEPT[self.peft_type] | dict(self.extra) | values

    def text(self) -> str:
        """Formats the file as PEFT does."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True, allow_nan=False)

    def _patterns(self) -> list[str]:
        """Returns all regular expressions among the fields."""
        fields = (self.target_modules, self.exclude_modules, self.feedforward_modules)
        pairs = (*self.rank_pattern, *self.alpha_pattern)
        whole = [field for field in fields if isinstance(field, str)]
        return [*whole, *self.layers_pattern, *(pattern for pattern, _ in pairs)]

    def _contradiction(self) -> str | None:
        """Returns what is wrong with the fields together; None if nothing is."""
        target, scaled = self.target_modules, self.feedforward_modules
        if isinstance(target, str) and (self.layers_to_transform or self.layers_pattern):
            return (
                "target_modules is a regular expression, which layers_to_transform and "
                "layers_pattern cannot restrict; let it say the layers"
            )
        if self.layers_pattern and not self.layers_to_transform:
            return "layers_pattern without layers_to_transform, whose numbers it is for"
        if self.use_dora and self.lora_bias:
            return "use_dora and lora_bias, which PEFT does not have together"
        if isinstance(target, tuple) and isinstance(scaled, tuple) and {*scaled} - {*target}:
            odd = sorted({*scaled} - {*target})
            return (
                f"feedforward_modules has {some(map(quoted, odd), 3)}, which is no target_modules"
            )
        return None


_EMPTY: tuple[Json, ...] = (None, False, 0, "", [], {})


def read_config(folder: str | os.PathLike, store: Store = LOCAL) -> PeftConfig:
    """Reads the `adapter_config.json` of a folder, or a file of it.

    Raises:
        CheckpointError: none there, no JSON, or as `PeftConfig.from_dict`.
    """
    folder = os.fspath(folder)
    path = os.path.join(folder, CONFIG_NAME) if store.is_folder(folder) else folder
    if not store.exists(path):
        raise CheckpointError(f"{path}: no such file, so that {folder} is no adapter of PEFT")
    values = store.open(path, _MOST_BYTES).json("the configuration of an adapter")
    if not isinstance(values, dict):
        raise CheckpointError(f"{path}: expected a JSON object, got {type(values).__name__}")
    return PeftConfig.from_dict(values, path)


def _refuse(values: Mapping[str, Json], where: str) -> None:
    """Refuses what changes the mathematics and is not done."""
    if values["peft_type"] != "LORA":
        return
    for key, what in REFUSED.items():
        if values.get(key) not in _EMPTY:
            raise CheckpointError(
                f"{where}: {key} is {quoted(values[key])}: {what}, is not done here; {_MERGE}"
            )
    start = values.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(CHANGES_BASE):
        raise CheckpointError(
            f"{where}: init_lora_weights is {quoted(start)}: the adapter is relative to a base "
            "that PEFT changed when it began, which is nowhere in these files; save it with "
            "save_pretrained(path_initial_model_for_weight_conversion=...) of PEFT, or "
            f"{_MERGE}"
        )
