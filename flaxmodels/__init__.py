"""Pretrained models in JAX: stateless linen modules, explicit parameter trees.

>>> import flaxmodels as fm
>>> from flaxmodels import params as fp, sharding as fs
"""

from typing import TYPE_CHECKING, Any

from . import checkout as _checkout

__version__ = "0.1.0"

_checkout.find_rooms(__name__)  # where params/ and sharding/ stand beside this folder

if TYPE_CHECKING:  # what editors and type checkers read; `__getattr__` serves the same names
    from . import blocks as blocks
    from . import params as params
    from . import sharding as sharding
    from .analysis.memory import memory_report as memory_report
    from .analysis.memory import memory_trace as memory_trace
    from .auto import AutoConfig as AutoConfig
    from .auto import AutoModel as AutoModel
    from .auto import AutoModelForCausalLM as AutoModelForCausalLM
    from .auto import AutoModelForCTC as AutoModelForCTC
    from .auto import AutoModelForImageClassification as AutoModelForImageClassification
    from .auto import AutoModelForMaskedLM as AutoModelForMaskedLM
    from .auto import AutoModelForMultipleChoice as AutoModelForMultipleChoice
    from .auto import AutoModelForNextSentencePrediction as AutoModelForNextSentencePrediction
    from .auto import AutoModelForPreTraining as AutoModelForPreTraining
    from .auto import AutoModelForQuestionAnswering as AutoModelForQuestionAnswering
    from .auto import AutoModelForSeq2SeqLM as AutoModelForSeq2SeqLM
    from .auto import AutoModelForSequenceClassification as AutoModelForSequenceClassification
    from .auto import AutoModelForSpeechSeq2Seq as AutoModelForSpeechSeq2Seq
    from .auto import AutoModelForTokenClassification as AutoModelForTokenClassification
    from .auto import AutoModelForVision2Seq as AutoModelForVision2Seq
    from .auto import load_plan as load_plan
    from .blocks import get_head_mask as get_head_mask
    from .bundled import bundled_checkpoint as bundled_checkpoint
    from .checkpoints.loading_info import LoadingInfo as LoadingInfo
    from .checkpoints.model_card import create_model_card as create_model_card
    from .config.config import Config as Config
    from .config.generation_config import GenerationConfig as GenerationConfig
    from .documents.json_values import ConfigError as ConfigError
    from .editing.prune import prune_heads as prune_heads
    from .families.bert import BertConfig as BertConfig
    from .families.bert import BertForMaskedLM as BertForMaskedLM
    from .families.bert import BertForMultipleChoice as BertForMultipleChoice
    from .families.bert import BertForNextSentencePrediction as BertForNextSentencePrediction
    from .families.bert import BertForPreTraining as BertForPreTraining
    from .families.bert import BertForQuestionAnswering as BertForQuestionAnswering
    from .families.bert import BertForSequenceClassification as BertForSequenceClassification
    from .families.bert import BertForTokenClassification as BertForTokenClassification
    from .families.bert import BertLMHeadModel as BertLMHeadModel
    from .families.bert import BertModel as BertModel
    from .families.gpt2 import GPT2Config as GPT2Config
    from .families.gpt2 import GPT2DoubleHeadsModel as GPT2DoubleHeadsModel
    from .families.gpt2 import GPT2ForQuestionAnswering as GPT2ForQuestionAnswering
    from .families.gpt2 import GPT2ForSequenceClassification as GPT2ForSequenceClassification
    from .families.gpt2 import GPT2ForTokenClassification as GPT2ForTokenClassification
    from .families.gpt2 import GPT2LMHeadModel as GPT2LMHeadModel
    from .families.gpt2 import GPT2Model as GPT2Model
    from .families.llama import LlamaConfig as LlamaConfig
    from .families.llama import LlamaForCausalLM as LlamaForCausalLM
    from .families.llama import LlamaForQuestionAnswering as LlamaForQuestionAnswering
    from .families.llama import LlamaForSequenceClassification as LlamaForSequenceClassification
    from .families.llama import LlamaForTokenClassification as LlamaForTokenClassification
    from .families.llama import LlamaModel as LlamaModel
    from .hub import HubError as HubError
    from .hub import download as download
    from .hub import push_files as push_files
    from .models.base import PretrainedModel as PretrainedModel
    from .params import CheckpointError as CheckpointError
    from .registry import register_for_auto_class as register_for_auto_class

    FlaxAutoModel = AutoModel
    FlaxAutoModelForCTC = AutoModelForCTC
    FlaxAutoModelForCausalLM = AutoModelForCausalLM
    FlaxAutoModelForImageClassification = AutoModelForImageClassification
    FlaxAutoModelForMaskedLM = AutoModelForMaskedLM
    FlaxAutoModelForMultipleChoice = AutoModelForMultipleChoice
    FlaxAutoModelForNextSentencePrediction = AutoModelForNextSentencePrediction
    FlaxAutoModelForPreTraining = AutoModelForPreTraining
    FlaxAutoModelForQuestionAnswering = AutoModelForQuestionAnswering
    FlaxAutoModelForSeq2SeqLM = AutoModelForSeq2SeqLM
    FlaxAutoModelForSequenceClassification = AutoModelForSequenceClassification
    FlaxAutoModelForSpeechSeq2Seq = AutoModelForSpeechSeq2Seq
    FlaxAutoModelForTokenClassification = AutoModelForTokenClassification
    FlaxAutoModelForVision2Seq = AutoModelForVision2Seq
    FlaxBertForMaskedLM = BertForMaskedLM
    FlaxBertForMultipleChoice = BertForMultipleChoice
    FlaxBertForNextSentencePrediction = BertForNextSentencePrediction
    FlaxBertForPreTraining = BertForPreTraining
    FlaxBertForQuestionAnswering = BertForQuestionAnswering
    FlaxBertForSequenceClassification = BertForSequenceClassification
    FlaxBertForTokenClassification = BertForTokenClassification
    BertForCausalLM = FlaxBertForCausalLM = FlaxBertLMHeadModel = BertLMHeadModel
    FlaxBertModel = BertModel
    FlaxGPT2DoubleHeadsModel = GPT2DoubleHeadsModel
    FlaxGPT2ForQuestionAnswering = GPT2ForQuestionAnswering
    FlaxGPT2ForSequenceClassification = GPT2ForSequenceClassification
    FlaxGPT2ForTokenClassification = GPT2ForTokenClassification
    FlaxGPT2LMHeadModel = GPT2LMHeadModel
    FlaxGPT2Model = GPT2Model
    FlaxLlamaForCausalLM = LlamaForCausalLM
    FlaxLlamaForQuestionAnswering = LlamaForQuestionAnswering
    FlaxLlamaForSequenceClassification = LlamaForSequenceClassification
    FlaxLlamaForTokenClassification = LlamaForTokenClassification
    FlaxLlamaModel = LlamaModel
    FlaxPreTrainedModel = PretrainedModel
    PreTrainedModel = PretrainedModel
    PretrainedConfig = Config

_HOMES = {
    "AutoConfig": "auto",
    "load_plan": "auto",
    "bundled_checkpoint": "bundled",
    "download": "hub",
    "HubError": "hub",
    "push_files": "hub",
    "create_model_card": "checkpoints.model_card",
    "register_for_auto_class": "registry",
    "prune_heads": "editing.prune",
    "get_head_mask": "blocks",
    "memory_trace": "analysis.memory",
    "memory_report": "analysis.memory",
    "PretrainedModel": "models.base",
    "Config": "config.config",
    "ConfigError": "documents.json_values",
    "GenerationConfig": "config.generation_config",
    "LoadingInfo": "checkpoints.loading_info",
    "CheckpointError": "params",
}
_OTHER_NAMES = {
    "PreTrainedModel": "PretrainedModel",
    "FlaxPreTrainedModel": "PretrainedModel",
    "PretrainedConfig": "Config",
    "BertForCausalLM": "BertLMHeadModel",
    "FlaxBertForCausalLM": "BertLMHeadModel",
}
"""As Transformers spells them; its Flax classes are ours without "Flax"."""
_ROOMS = ("params", "sharding", "blocks")


if not TYPE_CHECKING:  # to a type checker there are the names above, and no others

    def __getattr__(name: str) -> Any:
        """Imports what is asked for: the package stays cheap, and no family comes unasked."""
        import importlib

        if name in _ROOMS:
            value = importlib.import_module(f".{name}", __name__)
        elif name == "__all__":  # `params` and `sharding` would hide a script's own variables
            return [name for name in __dir__() if not name.startswith("_") and name not in _ROOMS]
        else:
            value = _named(_OTHER_NAMES.get(name, name))
        globals()[name] = value
        return value


def _named(name: str) -> Any:
    import importlib

    registry = importlib.import_module(".registry", __name__)
    if name in _HOMES:
        return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    plain = name.removeprefix("Flax")
    if plain in registry.ENDINGS:
        return getattr(importlib.import_module(".auto", __name__), plain)
    for model_type, (config, *models) in registry.FAMILIES.items():
        if name == config or plain in models:
            family = importlib.import_module(f".families.{model_type}", __name__)
            return getattr(family, name if name == config else plain)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)


def __dir__() -> list[str]:
    from .registry import ENDINGS, FAMILIES

    configs = [config for config, *_ in FAMILIES.values()]
    models = [*ENDINGS, *(name for _, *names in FAMILIES.values() for name in names)]
    flax = [f"Flax{name}" for name in models]
    return sorted([*_HOMES, *_OTHER_NAMES, *configs, *models, *flax, *_ROOMS, "__version__"])
