"""What Transformers' tokenizer classes take for granted where a folder's files are silent."""

import dataclasses
import re
from collections.abc import Mapping

NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
"""The special tokens that have a name, in Transformers' order."""


@dataclasses.dataclass(frozen=True)
class Kind:
    """A class of tokenizers.

    Attributes:
        special: {name: token}, for names that the files do not give.
        padding_side: where they do not say.
        token_type_ids: whether the model reads them.
    """

    special: Mapping[str, str] = dataclasses.field(default_factory=dict)
    padding_side: str | None = None
    token_type_ids: bool = False


def _named(tokens: str) -> dict[str, str]:
    """Pairs tokens with the names of `NAMED` in their order; "-" for none."""
    pairs = zip(NAMED, tokens.split(), strict=False)
    return {name: token for name, token in pairs if token != "-"}


_BERT = _named("- - [UNK] [SEP] [PAD] [CLS] [MASK]")
_DEBERTA = _named("[CLS] [SEP] [UNK] [SEP] [PAD] [CLS] [MASK]")
_ROBERTA = Kind(_named("<s> </s> <unk> </s> <pad> <s> <mask>"))

KINDS = {  # {class without "Tokenizer": what it takes for granted}
    **dict.fromkeys(
        "Bart Camembert LED Longformer MBart Nllb Roberta XLMRoberta".split(), _ROBERTA
    ),
    **dict.fromkeys("Bert Electra MobileBert".split(), Kind(_BERT, token_type_ids=True)),
    **dict.fromkeys("CodeLlama Llama".split(), Kind(_named("<s> </s> <unk>"), "left")),
    **dict.fromkeys("Deberta DebertaV2".split(), Kind(_DEBERTA, token_type_ids=True)),
    **dict.fromkeys("Marian T5".split(), Kind(_named("- </s> <unk> - <pad>"))),
    "Albert": Kind(_named("[CLS] [SEP] <unk> [SEP] <pad> [CLS] [MASK]")),
    "CLIP": Kind(_named("<|startoftext|> <|endoftext|> <|endoftext|> - <|endoftext|>")),
    "Cohere": Kind(
        _named("<BOS_TOKEN> <|END_OF_TURN_TOKEN|> <UNK> <SEP> <PAD> <CLS> <MASK_TOKEN>"), "left"
    ),
    "DistilBert": Kind(_BERT),
    "Esm": Kind(_named("- <eos> <unk> - <pad> <cls> <mask>")),
    "GPT2": Kind(_named("<|endoftext|> " * 3)),
    "GPTNeoX": Kind(_named("<|endoftext|> " * 3 + "- <|padding|>")),
    "GPTSw3": Kind(_named("<s> <|endoftext|> <unk> - <pad>")),
    "Gemma": Kind(_named("<bos> <eos> <unk> - <pad> - <mask>"), "left"),
    "M2M100": Kind(_named("<s> </s> <unk> </s> <pad>")),
    "MBart50": Kind(_named("- </s> <unk> </s> <pad> <s> <mask>")),
    "MPNet": Kind(_named("<s> </s> [UNK] </s> <pad> <s> <mask>")),
    "Qwen2": Kind(_named("- <|endoftext|> <|endoftext|> - <|endoftext|>")),
    "XGLM": Kind(_named("<s> </s> <unk> </s> <pad> <s>")),
}

# {model_type without marks: class}, where no file names the class: its own, or another's.
_OF_MODELS = {name.lower(): name for name in KINDS} | {
    "gemma2": "Gemma",
    "gptj": "GPT2",
    "gptneo": "GPT2",
    "mistral": "Llama",
    "mt5": "T5",
    "opt": "GPT2",
    "qwen3": "Qwen2",
}


def class_name(settings: Mapping[str, object], config: Mapping[str, object]) -> str:
    """Returns the tokenizer's class as its files name it, without "Tokenizer" and "Fast"; "" where
    none does.

    Args:
        settings: of `tokenizer_config.json`.
        config: of `config.json`.
    """
    name = settings.get("tokenizer_class") or config.get("tokenizer_class")
    if isinstance(name, str) and name not in ("TokenizersBackend", "PreTrainedTokenizerFast"):
        return name.removesuffix("Fast").removesuffix("Tokenizer")
    model = re.sub("[-_]", "", str(config.get("model_type")))
    return "" if name else _OF_MODELS.get(model, "")
