"""The keywords of a call: those that scripts bring along from Transformers act, or raise.

A keyword that is none of ours acts, or raises with what to write instead; only a value that asks
for what happens anyway is passed over. `KEYWORDS` has a row for each.
"""

import difflib
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

from ..params.errors import warn
from .keyword_table import KEYWORDS

T = TypeVar("T")
HUB_NAMES = frozenset({"use_auth_token", "resume_download"})
"""Old keywords that say where files are."""
LOAD_NAMES = HUB_NAMES | {"torch_dtype"}
"""Old keywords of a load that are none of a model's fields."""
NONE_IS_DEFAULT = frozenset("attn_implementation dtype revision subfolder variant".split())
"""Keywords of ours that None leaves out, as in Transformers."""


def ours(
    given: Mapping[str, object], known: Collection[str], cls: str, call: str
) -> dict[str, Any]:
    """Carries out those keywords of a call that are in `KEYWORDS`; others stay.

    Args:
        known: keywords of the call itself, and fields: they are never looked up.
        cls: the class's name, for a line to copy.
        call: what was called, "LlamaForCausalLM.from_pretrained".

    Raises:
        TypeError: a keyword that asks for what is not done here, with what to write instead; or
            one beside the keyword that it acts as.
    """
    taken = {name: value for name, value in given.items() if name in known or name not in KEYWORDS}
    for name, value in given.items():
        if name in taken:
            continue
        keyword = KEYWORDS[name]
        if any(_is(value, fine) for fine in keyword.fine):
            if keyword.warns and value is not None:
                warn(keyword.use, FutureWarning)
            continue
        if not keyword.becomes:
            use = keyword.use.replace("{cls}", cls).replace("{name}", name)
            raise TypeError(f"{call} does not take {name}={value!r:.80}: {use}")
        if keyword.old:
            warn(f"{name} is now {keyword.becomes}; give {keyword.becomes}", FutureWarning)
        if given.get(keyword.becomes) is not None:
            raise TypeError(f"{name} and {keyword.becomes} are one; give {keyword.becomes} alone")
        taken[keyword.becomes] = keyword.convert(value)
    return {name: value for name, value in taken.items() if not _left_out(name, value, call)}


def with_our_names(
    given: Mapping[str, object], call: str, names: Collection[str] = HUB_NAMES
) -> dict[str, Any]:
    """Carries out the old keywords `names`, which need no class; all others stay."""
    return ours(given, given.keys() - names, "", call)


def _left_out(name: str, value: object, call: str) -> bool:
    if name == "dtype" and isinstance(value, str) and value == "auto":
        raise TypeError(
            f"{call} does not take dtype='auto': dtype is what the model computes in, such as "
            "jnp.bfloat16; what the params are stored in is param_dtype, which is 'auto' already"
        )
    return value is None and name in NONE_IS_DEFAULT


def attention(name: T) -> T | str:
    """Returns our name of an implementation of attention; other names stay."""
    return "flash" if name in ("flash_attention_2", "flash_attention_3") else name


def unknown(names: Collection[str], call: str, takes: Mapping[str, Collection[str]]) -> TypeError:
    """Makes the error for keywords that nobody knows.

    Args:
        takes: {what they are of: names that may be given}.
    """
    pool = sorted({name for group in takes.values() for name in group})
    hints = []
    for name in sorted(names):
        near = difflib.get_close_matches(name, pool, n=3, cutoff=0.6)
        hints.append(f"{name!r}" + (f" (did you mean {' or '.join(near)}?)" if near else ""))
    lists = "".join(f"\n  {what}: {', '.join(sorted(group))}" for what, group in takes.items())
    return TypeError(f"{call} does not know {', '.join(hints)}; it takes{lists}")


def _is(value: object, other: object) -> bool:
    return value is other or (type(value) is type(other) and value == other)
