"""The public names, for type checkers. Written by `scripts/generate`."""

from . import blocks as blocks
from . import params as params
from . import sharding as sharding
from .analysis.memory import memory_report as memory_report
from .analysis.memory import memory_trace as memory_trace
from .auto import AutoConfig as AutoConfig
from .auto import AutoModel as AutoModel
from .auto import AutoModelForAudioClassification as AutoModelForAudioClassification
from .auto import AutoModelForCausalLM as AutoModelForCausalLM
from .auto import AutoModelForCTC as AutoModelForCTC
from .auto import AutoModelForImageClassification as AutoModelForImageClassification
from .auto import AutoModelForImageTextToText as AutoModelForImageTextToText
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
from .families.bloom import BloomConfig as BloomConfig
from .families.bloom import BloomForCausalLM as BloomForCausalLM
from .families.bloom import BloomForQuestionAnswering as BloomForQuestionAnswering
from .families.bloom import BloomForSequenceClassification as BloomForSequenceClassification
from .families.bloom import BloomForTokenClassification as BloomForTokenClassification
from .families.bloom import BloomModel as BloomModel
from .families.cohere import Cohere2Config as Cohere2Config
from .families.cohere import Cohere2ForCausalLM as Cohere2ForCausalLM
from .families.cohere import Cohere2Model as Cohere2Model
from .families.cohere import CohereConfig as CohereConfig
from .families.cohere import CohereForCausalLM as CohereForCausalLM
from .families.cohere import CohereModel as CohereModel
from .families.falcon import FalconConfig as FalconConfig
from .families.falcon import FalconForCausalLM as FalconForCausalLM
from .families.falcon import FalconForQuestionAnswering as FalconForQuestionAnswering
from .families.falcon import FalconForSequenceClassification as FalconForSequenceClassification
from .families.falcon import FalconForTokenClassification as FalconForTokenClassification
from .families.falcon import FalconModel as FalconModel
from .families.gemma import GemmaConfig as GemmaConfig
from .families.gemma import GemmaForCausalLM as GemmaForCausalLM
from .families.gemma import GemmaForSequenceClassification as GemmaForSequenceClassification
from .families.gemma import GemmaForTokenClassification as GemmaForTokenClassification
from .families.gemma import GemmaModel as GemmaModel
from .families.gemma2 import Gemma2Config as Gemma2Config
from .families.gemma2 import Gemma2ForCausalLM as Gemma2ForCausalLM
from .families.gemma2 import Gemma2ForSequenceClassification as Gemma2ForSequenceClassification
from .families.gemma2 import Gemma2ForTokenClassification as Gemma2ForTokenClassification
from .families.gemma2 import Gemma2Model as Gemma2Model
from .families.gemma2 import Gemma3ForCausalLM as Gemma3ForCausalLM
from .families.gemma2 import Gemma3TextConfig as Gemma3TextConfig
from .families.gemma2 import (
    Gemma3TextForSequenceClassification as Gemma3TextForSequenceClassification,
)
from .families.gemma2 import Gemma3TextModel as Gemma3TextModel
from .families.glm4 import Glm4Config as Glm4Config
from .families.glm4 import Glm4ForCausalLM as Glm4ForCausalLM
from .families.glm4 import Glm4ForSequenceClassification as Glm4ForSequenceClassification
from .families.glm4 import Glm4ForTokenClassification as Glm4ForTokenClassification
from .families.glm4 import Glm4Model as Glm4Model
from .families.gpt2 import GPT2Config as GPT2Config
from .families.gpt2 import GPT2DoubleHeadsModel as GPT2DoubleHeadsModel
from .families.gpt2 import GPT2ForQuestionAnswering as GPT2ForQuestionAnswering
from .families.gpt2 import GPT2ForSequenceClassification as GPT2ForSequenceClassification
from .families.gpt2 import GPT2ForTokenClassification as GPT2ForTokenClassification
from .families.gpt2 import GPT2LMHeadModel as GPT2LMHeadModel
from .families.gpt2 import GPT2Model as GPT2Model
from .families.gpt_neo import GPTNeoConfig as GPTNeoConfig
from .families.gpt_neo import GPTNeoForCausalLM as GPTNeoForCausalLM
from .families.gpt_neo import GPTNeoForQuestionAnswering as GPTNeoForQuestionAnswering
from .families.gpt_neo import GPTNeoForSequenceClassification as GPTNeoForSequenceClassification
from .families.gpt_neo import GPTNeoForTokenClassification as GPTNeoForTokenClassification
from .families.gpt_neo import GPTNeoModel as GPTNeoModel
from .families.gpt_neox import GPTNeoXConfig as GPTNeoXConfig
from .families.gpt_neox import GPTNeoXForCausalLM as GPTNeoXForCausalLM
from .families.gpt_neox import GPTNeoXForQuestionAnswering as GPTNeoXForQuestionAnswering
from .families.gpt_neox import GPTNeoXForSequenceClassification as GPTNeoXForSequenceClassification
from .families.gpt_neox import GPTNeoXForTokenClassification as GPTNeoXForTokenClassification
from .families.gpt_neox import GPTNeoXModel as GPTNeoXModel
from .families.gptj import GPTJConfig as GPTJConfig
from .families.gptj import GPTJForCausalLM as GPTJForCausalLM
from .families.gptj import GPTJForQuestionAnswering as GPTJForQuestionAnswering
from .families.gptj import GPTJForSequenceClassification as GPTJForSequenceClassification
from .families.gptj import GPTJModel as GPTJModel
from .families.granite import GraniteConfig as GraniteConfig
from .families.granite import GraniteForCausalLM as GraniteForCausalLM
from .families.granite import GraniteModel as GraniteModel
from .families.llama import LlamaConfig as LlamaConfig
from .families.llama import LlamaForCausalLM as LlamaForCausalLM
from .families.llama import LlamaForQuestionAnswering as LlamaForQuestionAnswering
from .families.llama import LlamaForSequenceClassification as LlamaForSequenceClassification
from .families.llama import LlamaForTokenClassification as LlamaForTokenClassification
from .families.llama import LlamaModel as LlamaModel
from .families.ministral3 import Ministral3Config as Ministral3Config
from .families.ministral3 import Ministral3ForCausalLM as Ministral3ForCausalLM
from .families.ministral3 import Ministral3ForQuestionAnswering as Ministral3ForQuestionAnswering
from .families.ministral3 import (
    Ministral3ForSequenceClassification as Ministral3ForSequenceClassification,
)
from .families.ministral3 import (
    Ministral3ForTokenClassification as Ministral3ForTokenClassification,
)
from .families.ministral3 import Ministral3Model as Ministral3Model
from .families.mistral import MistralConfig as MistralConfig
from .families.mistral import MistralForCausalLM as MistralForCausalLM
from .families.mistral import MistralForQuestionAnswering as MistralForQuestionAnswering
from .families.mistral import MistralForSequenceClassification as MistralForSequenceClassification
from .families.mistral import MistralForTokenClassification as MistralForTokenClassification
from .families.mistral import MistralModel as MistralModel
from .families.olmo2 import Olmo2Config as Olmo2Config
from .families.olmo2 import Olmo2ForCausalLM as Olmo2ForCausalLM
from .families.olmo2 import Olmo2ForSequenceClassification as Olmo2ForSequenceClassification
from .families.olmo2 import Olmo2Model as Olmo2Model
from .families.olmo2 import Olmo3Config as Olmo3Config
from .families.olmo2 import Olmo3ForCausalLM as Olmo3ForCausalLM
from .families.olmo2 import Olmo3ForSequenceClassification as Olmo3ForSequenceClassification
from .families.olmo2 import Olmo3Model as Olmo3Model
from .families.opt import OPTConfig as OPTConfig
from .families.opt import OPTForCausalLM as OPTForCausalLM
from .families.opt import OPTForQuestionAnswering as OPTForQuestionAnswering
from .families.opt import OPTForSequenceClassification as OPTForSequenceClassification
from .families.opt import OPTModel as OPTModel
from .families.phi import PhiConfig as PhiConfig
from .families.phi import PhiForCausalLM as PhiForCausalLM
from .families.phi import PhiForSequenceClassification as PhiForSequenceClassification
from .families.phi import PhiForTokenClassification as PhiForTokenClassification
from .families.phi import PhiModel as PhiModel
from .families.phi3 import Phi3Config as Phi3Config
from .families.phi3 import Phi3ForCausalLM as Phi3ForCausalLM
from .families.phi3 import Phi3ForSequenceClassification as Phi3ForSequenceClassification
from .families.phi3 import Phi3ForTokenClassification as Phi3ForTokenClassification
from .families.phi3 import Phi3Model as Phi3Model
from .families.qwen2 import Qwen2Config as Qwen2Config
from .families.qwen2 import Qwen2ForCausalLM as Qwen2ForCausalLM
from .families.qwen2 import Qwen2ForQuestionAnswering as Qwen2ForQuestionAnswering
from .families.qwen2 import Qwen2ForSequenceClassification as Qwen2ForSequenceClassification
from .families.qwen2 import Qwen2ForTokenClassification as Qwen2ForTokenClassification
from .families.qwen2 import Qwen2Model as Qwen2Model
from .families.qwen3 import Qwen3Config as Qwen3Config
from .families.qwen3 import Qwen3ForCausalLM as Qwen3ForCausalLM
from .families.qwen3 import Qwen3ForQuestionAnswering as Qwen3ForQuestionAnswering
from .families.qwen3 import Qwen3ForSequenceClassification as Qwen3ForSequenceClassification
from .families.qwen3 import Qwen3ForTokenClassification as Qwen3ForTokenClassification
from .families.qwen3 import Qwen3Model as Qwen3Model
from .families.smollm3 import SmolLM3Config as SmolLM3Config
from .families.smollm3 import SmolLM3ForCausalLM as SmolLM3ForCausalLM
from .families.smollm3 import SmolLM3ForQuestionAnswering as SmolLM3ForQuestionAnswering
from .families.smollm3 import SmolLM3ForSequenceClassification as SmolLM3ForSequenceClassification
from .families.smollm3 import SmolLM3ForTokenClassification as SmolLM3ForTokenClassification
from .families.smollm3 import SmolLM3Model as SmolLM3Model
from .families.stablelm import StableLmConfig as StableLmConfig
from .families.stablelm import StableLmForCausalLM as StableLmForCausalLM
from .families.stablelm import (
    StableLmForSequenceClassification as StableLmForSequenceClassification,
)
from .families.stablelm import StableLmForTokenClassification as StableLmForTokenClassification
from .families.stablelm import StableLmModel as StableLmModel
from .families.starcoder2 import Starcoder2Config as Starcoder2Config
from .families.starcoder2 import Starcoder2ForCausalLM as Starcoder2ForCausalLM
from .families.starcoder2 import (
    Starcoder2ForSequenceClassification as Starcoder2ForSequenceClassification,
)
from .families.starcoder2 import (
    Starcoder2ForTokenClassification as Starcoder2ForTokenClassification,
)
from .families.starcoder2 import Starcoder2Model as Starcoder2Model
from .families.xglm import XGLMConfig as XGLMConfig
from .families.xglm import XGLMForCausalLM as XGLMForCausalLM
from .families.xglm import XGLMModel as XGLMModel
from .hub import HubError as HubError
from .hub import download as download
from .hub import push_files as push_files
from .models.base import PretrainedModel as PretrainedModel
from .params import CheckpointError as CheckpointError
from .registration import register_for_auto_class as register_for_auto_class
from .text import load_tokenizer as load_tokenizer

__version__: str
BertForCausalLM = BertLMHeadModel
FlaxAutoModel = AutoModel
FlaxAutoModelForAudioClassification = AutoModelForAudioClassification
FlaxAutoModelForCTC = AutoModelForCTC
FlaxAutoModelForCausalLM = AutoModelForCausalLM
FlaxAutoModelForImageClassification = AutoModelForImageClassification
FlaxAutoModelForImageTextToText = AutoModelForImageTextToText
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
FlaxBertForCausalLM = BertLMHeadModel
FlaxBertForMaskedLM = BertForMaskedLM
FlaxBertForMultipleChoice = BertForMultipleChoice
FlaxBertForNextSentencePrediction = BertForNextSentencePrediction
FlaxBertForPreTraining = BertForPreTraining
FlaxBertForQuestionAnswering = BertForQuestionAnswering
FlaxBertForSequenceClassification = BertForSequenceClassification
FlaxBertForTokenClassification = BertForTokenClassification
FlaxBertLMHeadModel = BertLMHeadModel
FlaxBertModel = BertModel
FlaxBloomForCausalLM = BloomForCausalLM
FlaxBloomForQuestionAnswering = BloomForQuestionAnswering
FlaxBloomForSequenceClassification = BloomForSequenceClassification
FlaxBloomForTokenClassification = BloomForTokenClassification
FlaxBloomModel = BloomModel
FlaxCohere2ForCausalLM = Cohere2ForCausalLM
FlaxCohere2Model = Cohere2Model
FlaxCohereForCausalLM = CohereForCausalLM
FlaxCohereModel = CohereModel
FlaxFalconForCausalLM = FalconForCausalLM
FlaxFalconForQuestionAnswering = FalconForQuestionAnswering
FlaxFalconForSequenceClassification = FalconForSequenceClassification
FlaxFalconForTokenClassification = FalconForTokenClassification
FlaxFalconModel = FalconModel
FlaxGPT2DoubleHeadsModel = GPT2DoubleHeadsModel
FlaxGPT2ForQuestionAnswering = GPT2ForQuestionAnswering
FlaxGPT2ForSequenceClassification = GPT2ForSequenceClassification
FlaxGPT2ForTokenClassification = GPT2ForTokenClassification
FlaxGPT2LMHeadModel = GPT2LMHeadModel
FlaxGPT2Model = GPT2Model
FlaxGPTJForCausalLM = GPTJForCausalLM
FlaxGPTJForQuestionAnswering = GPTJForQuestionAnswering
FlaxGPTJForSequenceClassification = GPTJForSequenceClassification
FlaxGPTJModel = GPTJModel
FlaxGPTNeoForCausalLM = GPTNeoForCausalLM
FlaxGPTNeoForQuestionAnswering = GPTNeoForQuestionAnswering
FlaxGPTNeoForSequenceClassification = GPTNeoForSequenceClassification
FlaxGPTNeoForTokenClassification = GPTNeoForTokenClassification
FlaxGPTNeoModel = GPTNeoModel
FlaxGPTNeoXForCausalLM = GPTNeoXForCausalLM
FlaxGPTNeoXForQuestionAnswering = GPTNeoXForQuestionAnswering
FlaxGPTNeoXForSequenceClassification = GPTNeoXForSequenceClassification
FlaxGPTNeoXForTokenClassification = GPTNeoXForTokenClassification
FlaxGPTNeoXModel = GPTNeoXModel
FlaxGemma2ForCausalLM = Gemma2ForCausalLM
FlaxGemma2ForSequenceClassification = Gemma2ForSequenceClassification
FlaxGemma2ForTokenClassification = Gemma2ForTokenClassification
FlaxGemma2Model = Gemma2Model
FlaxGemma3ForCausalLM = Gemma3ForCausalLM
FlaxGemma3TextForSequenceClassification = Gemma3TextForSequenceClassification
FlaxGemma3TextModel = Gemma3TextModel
FlaxGemmaForCausalLM = GemmaForCausalLM
FlaxGemmaForSequenceClassification = GemmaForSequenceClassification
FlaxGemmaForTokenClassification = GemmaForTokenClassification
FlaxGemmaModel = GemmaModel
FlaxGlm4ForCausalLM = Glm4ForCausalLM
FlaxGlm4ForSequenceClassification = Glm4ForSequenceClassification
FlaxGlm4ForTokenClassification = Glm4ForTokenClassification
FlaxGlm4Model = Glm4Model
FlaxGraniteForCausalLM = GraniteForCausalLM
FlaxGraniteModel = GraniteModel
FlaxLlamaForCausalLM = LlamaForCausalLM
FlaxLlamaForQuestionAnswering = LlamaForQuestionAnswering
FlaxLlamaForSequenceClassification = LlamaForSequenceClassification
FlaxLlamaForTokenClassification = LlamaForTokenClassification
FlaxLlamaModel = LlamaModel
FlaxMinistral3ForCausalLM = Ministral3ForCausalLM
FlaxMinistral3ForQuestionAnswering = Ministral3ForQuestionAnswering
FlaxMinistral3ForSequenceClassification = Ministral3ForSequenceClassification
FlaxMinistral3ForTokenClassification = Ministral3ForTokenClassification
FlaxMinistral3Model = Ministral3Model
FlaxMistralForCausalLM = MistralForCausalLM
FlaxMistralForQuestionAnswering = MistralForQuestionAnswering
FlaxMistralForSequenceClassification = MistralForSequenceClassification
FlaxMistralForTokenClassification = MistralForTokenClassification
FlaxMistralModel = MistralModel
FlaxOPTForCausalLM = OPTForCausalLM
FlaxOPTForQuestionAnswering = OPTForQuestionAnswering
FlaxOPTForSequenceClassification = OPTForSequenceClassification
FlaxOPTModel = OPTModel
FlaxOlmo2ForCausalLM = Olmo2ForCausalLM
FlaxOlmo2ForSequenceClassification = Olmo2ForSequenceClassification
FlaxOlmo2Model = Olmo2Model
FlaxOlmo3ForCausalLM = Olmo3ForCausalLM
FlaxOlmo3ForSequenceClassification = Olmo3ForSequenceClassification
FlaxOlmo3Model = Olmo3Model
FlaxPhi3ForCausalLM = Phi3ForCausalLM
FlaxPhi3ForSequenceClassification = Phi3ForSequenceClassification
FlaxPhi3ForTokenClassification = Phi3ForTokenClassification
FlaxPhi3Model = Phi3Model
FlaxPhiForCausalLM = PhiForCausalLM
FlaxPhiForSequenceClassification = PhiForSequenceClassification
FlaxPhiForTokenClassification = PhiForTokenClassification
FlaxPhiModel = PhiModel
FlaxPreTrainedModel = PretrainedModel
FlaxQwen2ForCausalLM = Qwen2ForCausalLM
FlaxQwen2ForQuestionAnswering = Qwen2ForQuestionAnswering
FlaxQwen2ForSequenceClassification = Qwen2ForSequenceClassification
FlaxQwen2ForTokenClassification = Qwen2ForTokenClassification
FlaxQwen2Model = Qwen2Model
FlaxQwen3ForCausalLM = Qwen3ForCausalLM
FlaxQwen3ForQuestionAnswering = Qwen3ForQuestionAnswering
FlaxQwen3ForSequenceClassification = Qwen3ForSequenceClassification
FlaxQwen3ForTokenClassification = Qwen3ForTokenClassification
FlaxQwen3Model = Qwen3Model
FlaxSmolLM3ForCausalLM = SmolLM3ForCausalLM
FlaxSmolLM3ForQuestionAnswering = SmolLM3ForQuestionAnswering
FlaxSmolLM3ForSequenceClassification = SmolLM3ForSequenceClassification
FlaxSmolLM3ForTokenClassification = SmolLM3ForTokenClassification
FlaxSmolLM3Model = SmolLM3Model
FlaxStableLmForCausalLM = StableLmForCausalLM
FlaxStableLmForSequenceClassification = StableLmForSequenceClassification
FlaxStableLmForTokenClassification = StableLmForTokenClassification
FlaxStableLmModel = StableLmModel
FlaxStarcoder2ForCausalLM = Starcoder2ForCausalLM
FlaxStarcoder2ForSequenceClassification = Starcoder2ForSequenceClassification
FlaxStarcoder2ForTokenClassification = Starcoder2ForTokenClassification
FlaxStarcoder2Model = Starcoder2Model
FlaxXGLMForCausalLM = XGLMForCausalLM
FlaxXGLMModel = XGLMModel
PreTrainedModel = PretrainedModel
PretrainedConfig = Config
