"""Settings of generation of Transformers 5.23 that `generate` does not implement yet.

A setting that would change the tokens is named: in a warning where a file has it, in an error where
a caller gives it. Its default changes nothing and may be given by anyone.
"""

import difflib
from collections.abc import Iterable

from ..calls.generation_settings import CHANGE as CHANGE
from ..calls.generation_settings import KEEP as KEEP
from ..documents.json_values import ConfigError, Json, JsonObject, freeze, shown

_BOOKKEEPING = frozenset({"_commit_hash", "_from_model_config", "transformers_version"})

_ARGUMENTS = frozenset(
    "assistant_model assistant_tokenizer cache custom_generate inputs_embeds logits_processor "
    "negative_prompt_attention_mask negative_prompt_ids past_key_values position_ids "
    "prefix_allowed_tokens_fn stopping_criteria streamer synced_gpus token_type_ids tokenizer "
    "use_model_defaults".split()
)
"""Arguments of Transformers' `generate` beside settings, which this one does not take."""

_INSTEAD = {
    "inputs": "input_ids=",
    "prng_key": "key=, a jax.random.key(seed)",
    "rng": "key=, a jax.random.key(seed)",
    "seed": "key=jax.random.key(seed)",
    "trace": "nothing: it is always compiled",
    "trust_remote_code": "nothing: no code of a checkpoint is run",
}


def is_setting(name: str) -> bool:
    """Tells whether Transformers has a setting of this name that is not done here."""
    return name in CHANGE or name in KEEP or name in _BOOKKEEPING


def not_done(values: JsonObject) -> dict[str, Json]:
    """Selects the settings of a file that would give other tokens than `generate` does."""
    return {
        name: value
        for name, value in values.items()
        if name in CHANGE and not _is_neutral(value, CHANGE[name])
    }


def neutral(owner: str, given: JsonObject, fields: Iterable[str]) -> dict[str, Json]:
    """Checks settings that a caller gives and that are no field: they must change nothing.

    Args:
        owner: what takes them, for errors.
        fields: the names that act.

    Returns:
        those that are not None.

    Raises:
        NotImplementedError: a setting, or an argument of Transformers' `generate`, that would
            change something.
        TypeError: a name that is none.
    """
    for name, value in given.items():
        same = CHANGE.get(name, KEEP.get(name))
        if same is None and name not in _ARGUMENTS and name not in _BOOKKEEPING:
            raise TypeError(f"{owner} has no {name!r}{_hint(name, fields)}")
        if name not in _BOOKKEEPING and not _is_neutral(value, same or (False, ())):
            raise NotImplementedError(
                f"{owner}: {name} = {_text(value)} is not implemented yet; leave it out"
            )
    return {name: value for name, value in given.items() if value is not None and is_setting(name)}


def _is_neutral(value: Json, same: tuple[Json, ...]) -> bool:
    try:
        return value is None or freeze(value) in map(freeze, same)
    except ConfigError:  # an object of another library, an array under a transformation
        return False


def _hint(name: str, fields: Iterable[str]) -> str:
    if name in _INSTEAD:
        return f"; give {_INSTEAD[name]}"
    fields = [*fields]
    near = difflib.get_close_matches(name, [*fields, *CHANGE, *KEEP], 1)
    return f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(fields)}"


def _text(value: Json) -> str:
    try:
        return shown(freeze(value))
    except ConfigError:
        return f"a {type(value).__name__}"
