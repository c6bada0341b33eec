"""`load_tokenizer`: from a name to a tokenizer."""

import os
from collections.abc import Mapping
from typing import Any, Unpack

from ..hub import HubKeywords, HubOptions, Location
from ..params.scalars import wrong_kind
from .batches import length_of
from .chat_templates import read_templates
from .files import Files
from .pipeline import check_library, read_pipeline, read_target
from .settings import read_settings
from .tokenizer import Tokenizer


class TokenizerKeywords(HubKeywords, total=False):
    """The keywords of `load_tokenizer`."""

    bos_token: str
    eos_token: str
    unk_token: str
    sep_token: str
    pad_token: str
    cls_token: str
    mask_token: str
    padding_side: str
    truncation_side: str
    model_max_length: int
    src_lang: str
    tgt_lang: str


def load_tokenizer(
    name_or_path: str | os.PathLike | Location, **options: Unpack[TokenizerKeywords]
) -> Tokenizer:
    """Loads the tokenizer of a folder or repository.

    `tokenizer.json` is run as it is; without it the tokenizer is built from `vocab.txt`, from
    `vocab.json` and `merges.txt`, or from a model of SentencePiece (docs/tokenizers.md).

    Args:
        name_or_path: a folder, or a repository on the Hub, as a model's `from_pretrained` takes it.
        **options: special tokens, padding_side, truncation_side and model_max_length, which go
            before what the files say; src_lang and tgt_lang, of a multilingual vocabulary; and
            what says where the files are: revision, subfolder, token, cache_dir,
            local_files_only, force_download, proxies, progress.

    Raises:
        CheckpointError: not found; files that are damaged, or of a kind that is not read.
        ImportError: the library tokenizers is not installed.
        TypeError: a keyword that nothing takes.
        ValueError: a language that the tokenizer lacks, with the nearest; a side or a length that
            is none.
    """
    given: dict[str, Any] = dict(options)
    if odd := sorted(given.keys() - TokenizerKeywords.__annotations__.keys()):
        raise TypeError(
            f"load_tokenizer does not take {', '.join(odd)}; it takes "
            f"{', '.join(TokenizerKeywords.__annotations__)}"
        )
    check_library()
    hub_options = HubOptions.take_from(given)
    codes = {name: given.pop(name, None) for name in ("src_lang", "tgt_lang")}
    given = {name: _checked(name, value) for name, value in given.items() if value is not None}
    files = Files.of(name_or_path, hub_options)
    settings = read_settings(files, given)
    pipeline, settings = read_pipeline(files, settings)
    target = read_target(files, settings)
    tok = Tokenizer(pipeline, settings, read_templates(files), files.folder, target)
    return tok if set(codes.values()) == {None} else tok.with_languages(**codes)


def _checked(name: str, value: object) -> object:
    """Checks a setting of the caller's, which acts or raises; those of files are kept, or warned
    of."""
    if name == "model_max_length":
        return length_of(name, value)
    if name.endswith("_side") and value not in ("left", "right"):
        raise ValueError(f"{name} is {value!r:.80}; expected left or right")
    text = value.get("content") if isinstance(value, Mapping) else value
    if name.endswith("_token") and not (isinstance(text, str) and text):
        raise wrong_kind(name, text, "a token's text")
    return value
