"""What Transformers' tokenizer classes take for granted where a folder's files are silent."""

import dataclasses
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
_ROBERTA = _named("<s> </s> <unk> </s> <pad> <s> <mask>")
_GPT2 = _named("<|endoftext|> <|endoftext|> <|endoftext|>")
_LLAMA = _named("<s> </s> <unk>")
_T5 = _named("- </s> <unk> - <pad>")

KINDS = {  # {class without "Tokenizer": what it takes for granted}
    "Albert": Kind(_named("[CLS] [SEP] <unk> [SEP] <pad> [CLS] [MASK]")),
    "Bart": Kind(_ROBERTA),
    "Bert": Kind(_BERT, token_type_ids=True),
    "CLIP": Kind(_named("<|startoftext|> <|endoftext|> <|endoftext|> - <|endoftext|>")),
    "Camembert": Kind(_ROBERTA),
    "CodeLlama": Kind(_LLAMA, "left"),
    "Cohere": Kind(
        _named("<BOS_TOKEN> <|END_OF_TURN_TOKEN|> <UNK> <SEP> <PAD> <CLS> <MASK_TOKEN>"), "left"
    ),
    "Deberta": Kind(_named("[CLS] [SEP] [UNK] [SEP] [PAD] [CLS] [MASK]"), token_type_ids=True),
    "DebertaV2": Kind(_named("[CLS] [SEP] [UNK] [SEP] [PAD] [CLS] [MASK]"), token_type_ids=True),
    "DistilBert": Kind(_BERT),
    "Electra": Kind(_BERT, token_type_ids=True),
    "Esm": Kind(_named("- <eos> <unk> - <pad> <cls> <mask>")),
    "GPT2": Kind(_GPT2),
    "GPTNeoX": Kind(_GPT2),
    "GPTSw3": Kind(_named("<s> <|endoftext|> <unk> - <pad>")),
    "Gemma": Kind(_named("<bos> <eos> <unk> - <pad> - <mask>"), "left"),
    "LED": Kind(_ROBERTA),
    "Llama": Kind(_LLAMA, "left"),
    "Longformer": Kind(_ROBERTA),
    "M2M100": Kind(_named("<s> </s> <unk> </s> <pad>")),
    "MBart": Kind(_ROBERTA),
    "MBart50": Kind(_named("- </s> <unk> </s> <pad> <s> <mask>")),
    "MPNet": Kind(_named("<s> </s> [UNK] </s> <pad> <s> <mask>")),
    "Marian": Kind(_T5),
    "MobileBert": Kind(_BERT, token_type_ids=True),
    "Nllb": Kind(_ROBERTA),
    "Qwen2": Kind(_named("- <|endoftext|> <|endoftext|> - <|endoftext|>")),
    "Roberta": Kind(_ROBERTA),
    "T5": Kind(_T5),
    "XGLM": Kind(_named("<s> </s> <unk> </s> <pad> <s>")),
    "XLMRoberta": Kind(_ROBERTA),
}

_OF_MODELS = {  # {model_type: class}, where no file names the class
    "albert": "Albert",
    "bart": "Bart",
    "bert": "Bert",
    "camembert": "Camembert",
    "clip": "CLIP",
    "distilbert": "DistilBert",
    "electra": "Electra",
    "esm": "Esm",
    "gemma": "Gemma",
    "gemma2": "Gemma",
    "gpt2": "GPT2",
    "gpt_neo": "GPT2",
    "gptj": "GPT2",
    "led": "LED",
    "llama": "Llama",
    "longformer": "Longformer",
    "m2m_100": "M2M100",
    "marian": "Marian",
    "mbart": "MBart",
    "mistral": "Llama",
    "mobilebert": "MobileBert",
    "mpnet": "MPNet",
    "mt5": "T5",
    "opt": "GPT2",
    "qwen2": "Qwen2",
    "qwen3": "Qwen2",
    "roberta": "Roberta",
    "t5": "T5",
    "xglm": "XGLM",
    "xlm-roberta": "XLMRoberta",
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
    return "" if name else _OF_MODELS.get(str(config.get("model_type")), "")
