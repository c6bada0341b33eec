"""Front matter: the metadata at the head of a model card, made, and added to without touching the
rest."""

import contextlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from ..params.errors import quoted, warn
from .json_values import Json

CARD_NAME = "README.md"
_DEEPEST = 32
_LONGEST_BLOCK = 1 << 19  # characters, which take seconds to read
Words = str | Sequence[str] | None


def listed(words: Words) -> list[str]:
    """Makes a list of one word, several, or none; raises TypeError for what is no word."""
    several = [words] if isinstance(words, str) else words or ()
    if not isinstance(several, Iterable) or isinstance(several, Mapping | bytes):
        raise TypeError(f"{several!r:.80} is no word, nor a list of them")
    found = [*several]
    if odd := [word for word in found if not isinstance(word, str)]:
        raise TypeError(f"{odd[0]!r:.80} is no word")
    return found


def front_matter(data: Mapping[str, object]) -> str:
    """Makes the head of a card."""
    return f"---\n{_yaml(data)}\n---\n"


def merged_card(
    old: bytes | None, data: Mapping[str, object], new: Callable[[], str]
) -> bytes | None:
    """Makes the card that a repository is to have; None where the old one stays.

    Args:
        old: the repository's card: it gets the keys of `data` that it lacks, and tags.
        new: makes one where there is none.
    """
    if old is None:
        return new().encode()
    try:
        result = _merged(old.decode(), data).encode()
    except ValueError as error:
        warn(f"{CARD_NAME} stays as it is: {error}")
        return None
    return None if result == old else result


def _merged(text: str, data: Mapping[str, Json]) -> str:
    """Adds the keys of `data` that a card lacks, and all tags; the rest stays byte for byte. Raises
    `ValueError` where there is no metadata, or none that can be read or added to."""
    from huggingface_hub.repocard import REGEX_YAML_BLOCK

    match = REGEX_YAML_BLOCK.search(text)
    if match is None:
        raise ValueError("it does not begin with metadata between two lines of ---")
    before, block = _parsed(text), match[2]
    absent = {key: value for key, value in data.items() if key not in before}
    old = before.get("tags") or []
    if not isinstance(old, str | list):
        raise ValueError(f"its tags are {quoted(old)}, which is no list")
    old = [old] if isinstance(old, str) else old
    new = [tag for tag in data.get("tags", ()) if tag not in old and "tags" not in absent]
    line = "\r\n" if "\r\n" in match[0] else "\n"
    if new:
        block = _with_tags(block, new, line)
    if absent:
        block += line + _yaml(absent, line)
    result = match[1] + block + match[3] + text[match.end() :]
    expected = before | absent | ({"tags": [*old, *new]} if new else {})
    with contextlib.suppress(ValueError):
        if _parsed(result) == expected:
            return result
    raise ValueError("nothing can be added to its metadata without changing the rest")


def _with_tags(block: str, tags: list[str], line: str) -> str:
    """Adds tags to a block of YAML, in the style in which it writes them, if that can be done."""
    items = _yaml({"tags": tags}).splitlines()[1:]
    if match := re.search(r"^tags:[ \t]*(?:\r?\n)((?:[ \t]*- .*(?:\r?\n|\Z))+)", block, re.M):
        indent = re.match(r"[ \t]*", match[1])
        more = line.join(f"{indent[0] if indent else ''}{item}" for item in items)
        kept, rest = block[: match.end()], block[match.end() :]
        kept += "" if kept.endswith("\n") else line
        return kept + more + (line + rest if rest else "")
    words = ", ".join(item.removeprefix("- ") for item in items)
    if match := re.search(r"^tags:[ \t]*\[(.*)\]", block, re.M):
        words = f"{match[1]}, {words}" if match[1].strip() else words
    elif match := re.search(r"^tags:[ \t]*(.*?)[ \t]*$", block, re.M):
        words = f"{match[1]}, {words}" if match[1] else words
    else:
        return block
    return f"{block[: match.start()]}tags: [{words}]{block[match.end() :]}"


def _parsed(text: str) -> dict[str, Json]:
    """Parses the metadata of a card; raises `ValueError` where it cannot be read, or not cheaply:
    no part of it may stand for another, since a few such parts of parts would be gigabytes."""
    import yaml
    from huggingface_hub.repocard import REGEX_YAML_BLOCK, RepoCard

    match = REGEX_YAML_BLOCK.search(text)
    block = match[2] if match else ""
    if len(block) > _LONGEST_BLOCK:
        raise ValueError(f"its metadata has {len(block)} characters, more than {_LONGEST_BLOCK}")
    try:
        depth = 0
        for event in yaml.parse(block, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                raise ValueError("nothing can be added to metadata that refers to parts of itself")
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEEPEST:
                raise ValueError(f"its metadata cannot be read: more than {_DEEPEST} deep")
    except (yaml.YAMLError, RecursionError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"its metadata cannot be read: {reason}") from None
    try:
        return dict(vars(RepoCard(text).data))
    except Exception as error:  # the parser has errors of its own
        reason = str(error).partition("\n")[0]
        raise ValueError(f"its metadata cannot be read: {reason}") from None


def _yaml(data: Mapping[str, Json], line: str = "\n") -> str:
    from huggingface_hub import CardData

    return CardData(**data).to_yaml(line_break=line)
