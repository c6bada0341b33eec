"""What follows from a model and a tokenizer: lengths, labels, padding."""

from ..core.head_kinds import KINDS, kind_of
from ..core.model import Model
from .collate import Padding
from .options import DataOptions
from .packing import Packs
from .rows.columns import columns_of
from .rows.masking import Masking
from .rows.tokenizing import Texts, Tokenizes, check_tokenizer

_NO_LIMIT = 1 << 30  # as files say "as long as you like"


def limit_of(model: Model, options: DataOptions) -> int | None:
    """Returns how many tokens a row has at most.

    Raises:
        ValueError: more than the model has positions, or than `lengths` have room for.
    """
    positions = getattr(getattr(model.config, "text", model.config), "position_limit", None)
    longest = max(options.lengths, default=None) if options.lengths is not None else None
    asked = {"max_length": options.max_length, "lengths": longest}
    if options.max_length is not None and longest is not None and longest < options.max_length:
        raise ValueError(f"lengths end at {longest}, and max_length is {options.max_length}")
    for name, value in asked.items():
        if value is not None and positions is not None and value > positions:
            raise ValueError(f"{name}: {value} tokens, and the model has {positions} positions")
    return min((x for x in (*asked.values(), positions) if x is not None), default=None)


def texts_of(model: Model, tokenizer: Tokenizes | None, options: DataOptions) -> Texts | None:
    """Returns what is tokenised; None without a tokenizer.

    Raises:
        TypeError: what is no tokenizer.
        ValueError: texts without a tokenizer, or an answer for a model without a decoder of them.
    """
    text, target = options.text, options.target
    if tokenizer is None and (text is not None or target is not None):
        raise ValueError(f"text={text!r}, target={target!r}: give tokenizer=, which reads them")
    if target is not None and not kind_of(model).decodes:
        raise ValueError(
            f"target={target!r}: {type(model).__name__} has no decoder that says it; what it is "
            "to go on with is a part of text"
        )
    if tokenizer is None:
        return None
    check_tokenizer(tokenizer)
    first, *pair = ("text",) if text is None else text
    unless = model.main_input_name if text is None and target is None else None
    as_target = getattr(tokenizer, "as_target", None)  # of a tokenizer with languages, another one
    answers = tokenizer if target is None or as_target is None else as_target()
    return Texts(tokenizer, first, pair[0] if pair else None, target, answers, unless)


def text_limit(texts: Texts | None, limit: int | None) -> int | None:
    """Returns how many tokens a row has at most: what the tokenizer says if nothing else does."""
    if texts is None or limit is not None:
        return limit
    longest = getattr(texts.tokenizer, "model_max_length", None)
    return longest if longest is not None and longest < _NO_LIMIT else None


def masking_of(model: Model, tokenizer: Tokenizes | None, options: DataOptions) -> Masking | None:
    """Returns how tokens are masked; None for a model that is not trained so, without a tokenizer,
    or for a probability of 0.

    Raises:
        ValueError: a probability that would have no effect, or a tokenizer without a mask.
    """
    masks = kind_of(model).masks
    if not masks or tokenizer is None:
        if options.asks_for_masking:
            why = "has no tokenizer=" if masks else "is not trained by masking"
            raise ValueError(
                f"mlm_probability={options.mlm_probability} would have no effect: "
                f"{type(model).__name__} {why}"
            )
        return None
    if options.mlm_probability == 0:
        return None
    return Masking.of(tokenizer, options.mlm_probability, model.config.vocab_size)


def padding_of(model: Model, tokenizer: object) -> Padding:
    """Returns how rows are padded: as the tokenizer says, or else the configuration."""
    pad = getattr(tokenizer, "pad_token_id", None)
    pad = getattr(model.config, "pad_token_id", None) if pad is None else pad
    side = getattr(tokenizer, "padding_side", "right")
    return Padding(pad, side, getattr(tokenizer, "pad_token_type_id", 0))


def packs_of(
    model: Model, padding: Padding, limit: int | None, options: DataOptions
) -> Packs | None:
    """Returns how rows are packed; None if they are not.

    Raises:
        ValueError: no length, or a model whose labels are not of tokens.
    """
    if not options.pack:
        return None
    kind = kind_of(model)
    if limit is None:
        raise ValueError("pack: give max_length, the tokens of a packed row")
    if not kind.packs:
        known = ", ".join(name for name, each in KINDS.items() if each.packs)
        raise ValueError(
            f"pack: {type(model).__name__} has the loss {model.loss_kind}; rows are packed where "
            f"each token has a label: {known}"
        )
    pad, first, splits = padding.pad_token_id or 0, _first_position(model), options.pack == "split"
    return Packs(limit, pad, kind.next_tokens == "shifted", first, splits)


def first_position(model: Model, padding: Padding) -> int | None:
    """Returns the position of a first token, where padding stands before it and the model is to be
    told; else None."""
    if padding.padding_side != "left" or kind_of(model).decodes:
        return None
    return _first_position(model)


def _first_position(model: Model) -> int | None:
    """Returns the position of a first token; None of a model that takes no positions."""
    return model.config.first_position if "position_ids" in columns_of(model).inputs else None
