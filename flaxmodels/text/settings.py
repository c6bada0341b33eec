"""What the files beside the vocabulary say: special and added tokens, padding, lengths."""

import dataclasses
from collections.abc import Mapping

from .. import params as fp
from ..documents.json_values import Json
from ..params.errors import quoted, warn
from .files import Files
from .kinds import KINDS, NAMED, Kind, class_name
from .languages.forms import Languages

CONFIG = "tokenizer_config.json"
_MAP = "special_tokens_map.json"
_ADDED = "added_tokens.json"
_LISTS = ("extra_special_tokens", "additional_special_tokens")
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")
_ENDLESS = 10**20  # a length that means none
_MOST_ADDED = 100_000
_DECODERS = ("ForCausalLM", "LMHeadModel")


@dataclasses.dataclass(frozen=True)
class Token:
    """A token that is found in a text before anything else is done to it.

    Attributes:
        content: its text.
        flags: arguments of `tokenizers.AddedToken`; those that are left out have its defaults.
        id: where a file says.
    """

    content: str
    flags: Mapping[str, bool] = dataclasses.field(default_factory=dict)
    id: int | None = None


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a tokenizer's files say about it, the vocabulary aside.

    Attributes:
        cls: the class that they name, "Llama"; "" where they do not.
        added: tokens, in the order in which they are added to the vocabulary.
        named: {name: token} of special tokens, "eos_token" and others, "image_token".
        taken_for_granted: the same, of names that no file gives.
        extra: special tokens without a name.
        padding_side: "left" or "right".
        truncation_side: "left" or "right".
        model_max_length: tokens that the model takes; None where nobody said.
        token_type_ids: whether the model reads them.
        clean_up: whether `decode` takes out spaces before punctuation.
        split_special_tokens: whether special tokens in a text are text.
        values: of `tokenizer_config.json`, for what is built from a vocabulary.
        lowercasing: whether texts become lower case before anything else.
        languages: of a multilingual vocabulary.
        known: ids from this number on mean the unknown token; None for none.
    """

    cls: str
    added: tuple[Token, ...]
    named: Mapping[str, Token]
    taken_for_granted: Mapping[str, str]
    extra: tuple[Token, ...]
    padding_side: str
    truncation_side: str
    model_max_length: int | None
    token_type_ids: bool
    clean_up: bool
    split_special_tokens: bool
    values: Mapping[str, Json]
    lowercasing: bool = False
    languages: Languages | None = None
    known: int | None = None

    def with_all_named(self) -> "Settings":
        """Returns the settings with what the class takes for granted as if a file had named it."""
        granted = {name: Token(text) for name, text in self.taken_for_granted.items()}
        both = {**granted, **self.named}
        named = {name: both[name] for name in [*NAMED, *both] if name in both}
        return dataclasses.replace(self, named=named, taken_for_granted={})


def read_settings(files: Files, given: Mapping[str, object]) -> Settings:
    """Reads the settings of a folder.

    Args:
        given: the caller's, under the names of `tokenizer_config.json`; they go before the files'.

    Raises:
        CheckpointError: a value of another type than its name says, by file and key.
    """
    config = files.json("config.json")
    values, path = files.json(CONFIG), files.path(CONFIG)
    given = dict(given)
    cls = class_name(values, config)
    kind = KINDS.get(cls, Kind())
    added, tokens = _tokens(files, values)
    tokens |= {name: value for name, value in given.items() if name.endswith("_token")}
    extra: list[Token] = []
    for some in (tokens.pop(key, None) for key in _LISTS):
        if isinstance(some, Mapping):
            tokens |= some
        elif isinstance(some, list | tuple):
            extra += [_token(path, "extra_special_tokens", token) for token in some]
    known = {token.content: token for token in added}
    named = {
        name: known.get(token.content, token)
        for name, token in ((name, _token(path, name, value)) for name, value in tokens.items())
    }
    said = values.keys() | tokens.keys()  # a null says that there is none
    missing = {name: text for name, text in kind.special.items() if name not in said}
    sides = {
        key: _checked(path, values | given, key, str, default)
        for key, default in (
            ("padding_side", kind.padding_side or _side_of(config)),
            ("truncation_side", "right"),
        )
    }
    for key, side in sides.items():
        if side not in ("left", "right"):
            raise fp.CheckpointError(f"{path}: {key} is {quoted(side)}; expected left or right")
    names = _checked(path, values, "model_input_names", list, None)
    return Settings(
        cls=cls,
        added=tuple(added),
        named={name: named[name] for name in [*NAMED, *named] if name in named},
        taken_for_granted=missing,
        extra=tuple(extra),
        model_max_length=_length(values | given, path),
        token_type_ids=kind.token_type_ids if names is None else "token_type_ids" in names,
        clean_up=_checked(path, values, "clean_up_tokenization_spaces", bool, False),
        split_special_tokens=_checked(path, values, "split_special_tokens", bool, False),
        values=values,
        **sides,
    )


def _side_of(config: Mapping[str, object]) -> str:
    """Returns the side on which batches for a model are padded: a decoder goes on at the right."""
    architectures = config.get("architectures")
    names = architectures if isinstance(architectures, list) else ()
    return "left" if any(str(name).endswith(_DECODERS) for name in names) else "right"


def _tokens(files: Files, values: Mapping[str, Json]) -> tuple[list[Token], dict[str, Json]]:
    """Reads (added tokens by their ids, {name: special token}, two lists among them). Where
    `tokenizer_config.json` does not list added tokens, the two older files do."""
    path = files.path(CONFIG)
    named = {
        name: value
        for name, value in values.items()
        if name in _LISTS or (name.endswith("_token") and isinstance(value, str | Mapping))
    }
    decoder = _checked(path, values, "added_tokens_decoder", dict, None)
    if decoder is not None:
        _check_count(path, decoder)
        added = [
            dataclasses.replace(
                _token(path, f"added_tokens_decoder, {number}", token), id=int(number)
            )
            for number, token in decoder.items()
            if number.isdecimal() and len(number) < 10
        ]
        return sorted(added, key=lambda token: token.id or 0), named
    special = {k: v for k, v in files.json(_MAP).items() if v is not None}
    for key, value in special.items():
        flags = {"special": True} if isinstance(value, Mapping) and key not in _LISTS else {}
        named[key] = {**value, **flags} if flags else value
    texts = {_content(value) for key, value in named.items() if key not in _LISTS}
    for key in _LISTS:
        texts |= {_content(value) for value in named.get(key) or ()}
    older = files.vocabulary(_ADDED) if _ADDED in files else {}
    _check_count(files.path(_ADDED), older)
    added = [
        Token(text, {"normalized": text not in texts, "special": text in texts}, number)
        for text, number in older.items()
    ]
    return sorted(added, key=lambda token: token.id or 0), named


def _content(value: object) -> Json:
    return value.get("content") if isinstance(value, Mapping) else value


def _check_count(path: str, tokens: Mapping[str, object]) -> None:
    if len(tokens) > _MOST_ADDED:
        raise fp.CheckpointError(
            f"{path}: {len(tokens)} added tokens; a tokenizer has at most {_MOST_ADDED}"
        )


def _token(path: str, name: str, value: object) -> Token:
    if isinstance(value, str):
        return Token(value)
    content = _content(value)
    if not isinstance(content, str) or not isinstance(value, Mapping):
        raise fp.CheckpointError(
            f"{path}: {name} is {quoted(value)}; expected a token, as text or as an object with "
            "its content"
        )
    return Token(content, {key: bool(value[key]) for key in _FLAGS if key in value})


def _checked(
    path: str, values: Mapping[str, object], key: str, kind: type, default: object
) -> Json:
    value = values.get(key)
    if value is None:
        return default
    if not isinstance(value, kind):
        raise fp.CheckpointError(f"{path}: {key} is {quoted(value)}; expected a {kind.__name__}")
    return value


def _length(values: Mapping[str, object], path: str) -> int | None:
    value = values.get("model_max_length", values.get("max_len"))
    if value is None or (isinstance(value, int | float) and value > _ENDLESS):
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or value < 1:
        warn(f"{path}: model_max_length is {quoted(value)}, which is no length; it is left out")
        return None
    return int(value)
