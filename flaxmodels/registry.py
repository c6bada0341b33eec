"""The families and their classes, as data: what there is, where it stands, what it is for.

One entry of `FAMILIES` is all that names a family. The package's names, the auto classes, model
cards, the stub that type checkers read and the tables of the documentation follow from it and from
`HEADS`.
"""

import dataclasses
import functools
import importlib
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias, TypeVar

Name = TypeVar("Name")
ModelClass: TypeAlias = Any
"""A `type[PretrainedModel]`, which this module, below all of them, cannot name."""
ConfigClass: TypeAlias = Any
"""A `type[Config]`."""


class Head(NamedTuple):
    """What the classes are for whose names end alike.

    Attributes:
        task: of a repository on the Hub, for its search; "" where the Hub has none.
        serves: the auto classes that find them.
    """

    task: str
    serves: tuple[str, ...] = ()


HEADS: dict[str, Head] = {
    "ForPreTraining": Head("fill-mask", ("AutoModelForPreTraining",)),
    "ForConditionalGeneration": Head(
        "text2text-generation", ("AutoModelForSeq2SeqLM", "AutoModelForPreTraining")
    ),
    "ForMaskedLM": Head("fill-mask", ("AutoModelForMaskedLM", "AutoModelForPreTraining")),
    "ForCausalLM": Head("text-generation", ("AutoModelForCausalLM", "AutoModelForPreTraining")),
    "LMHeadModel": Head("text-generation", ("AutoModelForCausalLM", "AutoModelForPreTraining")),
    "DoubleHeadsModel": Head("text-generation"),
    "MTModel": Head("translation", ("AutoModelForSeq2SeqLM",)),
    "ForNextSentencePrediction": Head("", ("AutoModelForNextSentencePrediction",)),
    "Model": Head("feature-extraction", ("AutoModel",)),
    "EncoderModel": Head("feature-extraction"),
} | {
    f"For{end}": Head(task, (f"AutoModelFor{end}",))
    for end, task in {
        "SequenceClassification": "text-classification",
        "TokenClassification": "token-classification",
        "QuestionAnswering": "question-answering",
        "MultipleChoice": "multiple-choice",
        "Seq2SeqLM": "text2text-generation",
        "ImageClassification": "image-classification",
        "ImageTextToText": "image-text-to-text",
        "Vision2Seq": "image-to-text",
        "SpeechSeq2Seq": "automatic-speech-recognition",
        "CTC": "automatic-speech-recognition",
        "AudioClassification": "audio-classification",
    }.items()
}
"""End of a class's name -> what it is for. Where several classes of a family could serve an auto
class, the one whose ending comes first here does."""

AUTO_CLASSES = tuple(sorted({name for head in HEADS.values() for name in head.serves}))
"""The names of all auto classes."""


@dataclasses.dataclass(frozen=True)
class Family:
    """The classes of a model type.

    Attributes:
        prefix: what their names begin with: "GPTNeoX". The configuration is `GPTNeoXConfig`.
        heads: how the names of the model classes go on, keys of `HEADS`.
        title: the family's name for a reader, and what is well known of it.
        classes: model classes whose names begin otherwise.
        serves: {auto class: name of a class}, where endings do not say it. A class that is named
            here serves what is said here, and nothing by its ending.
        other_names: {name: name of a class}: what else Transformers calls it.
        model_types: what else `config.json` may call this model type.
    """

    prefix: str
    heads: tuple[str, ...]
    title: str
    _: dataclasses.KW_ONLY
    classes: tuple[str, ...] = ()
    serves: Mapping[str, str] = dataclasses.field(default_factory=dict)
    other_names: Mapping[str, str] = dataclasses.field(default_factory=dict)
    model_types: tuple[str, ...] = ()

    @property
    def config(self) -> str:
        """The name of the configuration's class."""
        return f"{self.prefix}Config"

    @property
    def models(self) -> tuple[str, ...]:
        """The names of the model classes."""
        return (*(self.prefix + head for head in self.heads), *self.classes)

    def serving(self, auto_class: str) -> str | None:
        """Returns the name of the class that serves an auto class; None if there is none."""
        if auto_class in self.serves:
            return self.serves[auto_class]
        models = [name for name in self.models if name not in self.serves.values()]
        named = {ending_of(name): name for name in reversed(models)}  # of several, the first one
        ends = (end for end, head in HEADS.items() if auto_class in head.serves)
        return next((named[end] for end in ends if end in named), None)


_LM = ("Model", "ForCausalLM")
_MASKED = ("Model", "ForMaskedLM", "ForSequenceClassification", "ForTokenClassification")
_SEQUENCES = (*_LM, "ForSequenceClassification")
_TOKENS = (*_SEQUENCES, "ForTokenClassification")
_ANSWERS = (*_SEQUENCES, "ForQuestionAnswering")
_ALL = (*_TOKENS, "ForQuestionAnswering")
_READS = ("ForMaskedLM", "ForSequenceClassification", "ForMultipleChoice")
_READS += ("ForTokenClassification", "ForQuestionAnswering")
_ENCODERS = ("Model", *_READS, "ForCausalLM")

_SEQ2SEQ = ("Model", "ForConditionalGeneration")
_BART = (*_SEQ2SEQ, "ForSequenceClassification", "ForQuestionAnswering", "ForCausalLM")
_T5 = (*_SEQ2SEQ, "EncoderModel", "ForSequenceClassification", "ForTokenClassification")
_T5 += ("ForQuestionAnswering",)


def _generated_by(name: str) -> Mapping[str, str]:
    """Makes the `serves` of encoder-decoders that were trained to restore texts."""
    return {f"AutoModelFor{task}": name for task in ("Seq2SeqLM", "PreTraining", "MaskedLM")}


FAMILIES: dict[str, Family] = {
    "albert": Family("Albert", ("Model", "ForPreTraining", *_READS), "ALBERT"),
    "bart": Family("Bart", _BART, "BART", serves=_generated_by("BartForConditionalGeneration")),
    "bert": Family(
        "Bert",
        ("Model", "ForMaskedLM", "LMHeadModel", "ForPreTraining", "ForNextSentencePrediction")
        + ("ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering")
        + ("ForMultipleChoice",),
        "BERT",
        other_names={"BertForCausalLM": "BertLMHeadModel"},
    ),
    "big_bird": Family("BigBird", (*_ENCODERS, "ForPreTraining"), "BigBird"),
    "blenderbot": Family("Blenderbot", (*_SEQ2SEQ, "ForCausalLM"), "Blenderbot"),
    "blenderbot-small": Family("BlenderbotSmall", (*_SEQ2SEQ, "ForCausalLM"), "Blenderbot Small"),
    "bloom": Family("Bloom", _ALL, "BLOOM"),
    "camembert": Family("Camembert", _ENCODERS, "CamemBERT"),
    "cohere": Family("Cohere", _LM, "Command R"),
    "cohere2": Family("Cohere2", _LM, "Command R7B, Command A"),
    "deberta": Family("Deberta", (*_MASKED, "ForQuestionAnswering"), "DeBERTa"),
    "deberta-v2": Family(
        "DebertaV2",
        (*_MASKED, "ForQuestionAnswering", "ForMultipleChoice"),
        "DeBERTa v2 and v3",
    ),
    "distilbert": Family("DistilBert", ("Model", *_READS), "DistilBERT"),
    "electra": Family("Electra", (*_ENCODERS, "ForPreTraining"), "ELECTRA"),
    "encoder-decoder": Family(
        "EncoderDecoder",
        ("Model",),
        "an encoder beside a decoder, of any families",
        serves={"AutoModelForSeq2SeqLM": "EncoderDecoderModel"},
    ),
    "esm": Family("Esm", _MASKED, "ESM-1b, ESM-2"),
    "eurobert": Family("EuroBert", _MASKED, "EuroBERT"),
    "falcon": Family("Falcon", _ALL, "Falcon", model_types=("RefinedWeb", "RefinedWebModel")),
    "gemma": Family("Gemma", _TOKENS, "Gemma"),
    "gemma2": Family("Gemma2", _TOKENS, "Gemma 2"),
    "gemma3_text": Family(
        "Gemma3Text",
        ("Model", "ForSequenceClassification"),
        "Gemma 3, EmbeddingGemma",
        classes=("Gemma3ForCausalLM",),
    ),
    "glm4": Family("Glm4", _TOKENS, "GLM 4"),
    "gpt2": Family(
        "GPT2",
        ("Model", "LMHeadModel", "ForSequenceClassification", "ForTokenClassification")
        + ("ForQuestionAnswering", "DoubleHeadsModel"),
        "GPT-2, GPT-SW3",
        model_types=("gpt-sw3",),
    ),
    "gpt_neo": Family("GPTNeo", _ALL, "GPT-Neo"),
    "gpt_neox": Family("GPTNeoX", _ALL, "GPT-NeoX, Pythia"),
    "gptj": Family("GPTJ", _ANSWERS, "GPT-J"),
    "granite": Family("Granite", _LM, "Granite 3"),
    "gte": Family("Gte", _MASKED, "GTE"),
    "llama": Family("Llama", _ALL, "Llama 1 to 3.3"),
    "longt5": Family("LongT5", _T5[:3], "LongT5"),
    "m2m_100": Family("M2M100", _SEQ2SEQ, "M2M-100, NLLB"),
    "marian": Family("Marian", ("Model", "MTModel", "ForCausalLM"), "Marian, OPUS-MT"),
    "mbart": Family("MBart", _BART, "mBART", serves=_generated_by("MBartForConditionalGeneration")),
    "ministral3": Family("Ministral3", _ALL, "Ministral 3"),
    "mistral": Family("Mistral", _ALL, "Mistral, Mistral Small 3"),
    "modernbert": Family(
        "ModernBert", (*_MASKED, "ForQuestionAnswering", "ForMultipleChoice"), "ModernBERT"
    ),
    "mpnet": Family("MPNet", ("Model", *_READS), "MPNet"),
    "mt5": Family("MT5", _T5, "mT5"),
    "nomic_bert": Family("NomicBert", _MASKED, "Nomic Embed"),
    "olmo2": Family("Olmo2", _SEQUENCES, "OLMo 2"),
    "olmo3": Family("Olmo3", _SEQUENCES, "OLMo 3"),
    "opt": Family("OPT", _ANSWERS, "OPT"),
    "pegasus": Family("Pegasus", (*_SEQ2SEQ, "ForCausalLM"), "Pegasus"),
    "phi": Family("Phi", _TOKENS, "Phi 1 to 2"),
    "phi3": Family("Phi3", _TOKENS, "Phi 3 and 4"),
    "qwen2": Family("Qwen2", _ALL, "Qwen 2, Qwen 2.5, QwQ"),
    "qwen3": Family("Qwen3", _ALL, "Qwen 3"),
    "roberta": Family("Roberta", _ENCODERS, "RoBERTa"),
    "roberta-prelayernorm": Family("RobertaPreLayerNorm", _ENCODERS, "RoBERTa-PreLayerNorm"),
    "roformer": Family("RoFormer", _ENCODERS, "RoFormer"),
    "smollm3": Family("SmolLM3", _ALL, "SmolLM 3"),
    "stablelm": Family("StableLm", _TOKENS, "StableLM 1 and 2"),
    "starcoder2": Family("Starcoder2", _TOKENS, "StarCoder 2"),
    "t5": Family("T5", _T5, "T5, Flan-T5, ByT5, UL2"),
    "umt5": Family("UMT5", _T5, "UMT5"),
    "xglm": Family("XGLM", _LM, "XGLM"),
    "xlm-roberta": Family("XLMRoberta", _ENCODERS, "XLM-RoBERTa"),
    "xlm-roberta-xl": Family("XLMRobertaXL", _ENCODERS, "XLM-RoBERTa XL and XXL"),
}
"""model_type -> its classes, in alphabetical order."""


@functools.cache
def ending_of(name: str) -> str | None:
    """Returns the key of `HEADS` that the name of a class ends with, the longest; None if none."""
    return max((end for end in HEADS if name.endswith(end)), key=len, default=None)


def model_type_of(name: Name) -> Name | str:
    """Returns the key of `FAMILIES` for what a `config.json` calls a model type; anything else
    stays as it is."""
    return next((key for key, family in FAMILIES.items() if name in family.model_types), name)


def module_of(model_type: str) -> str:
    """Returns the name of a family's module in `families/`."""
    return model_type.replace("-", "_")


@functools.cache
def names_of_families() -> Mapping[str, tuple[str, str]]:
    """Returns {public name: (module in `families/`, the name there)} of all families: classes,
    under Transformers' other names and, but for configurations, with "Flax" in front too."""
    names = {}
    for model_type, family in FAMILIES.items():
        module = module_of(model_type)
        models = {name: (module, name) for name in family.models}
        models |= {other: (module, name) for other, name in family.other_names.items()}
        flax = {f"Flax{name}": home for name, home in models.items()}
        names |= {family.config: (module, family.config)} | models | flax
    return names


def family_class(name: str) -> ModelClass | ConfigClass:
    """Imports a class of a family by any of its names; KeyError if there is none."""
    module, name = names_of_families()[name]
    return getattr(importlib.import_module(f".families.{module}", __package__), name)
