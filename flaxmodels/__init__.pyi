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
from .embeddings.cross_encoder import CrossEncoder as CrossEncoder
from .embeddings.sentence_encoder import SentenceEncoder as SentenceEncoder
from .families.albert import AlbertConfig as AlbertConfig
from .families.albert import AlbertForMaskedLM as AlbertForMaskedLM
from .families.albert import AlbertForMultipleChoice as AlbertForMultipleChoice
from .families.albert import AlbertForPreTraining as AlbertForPreTraining
from .families.albert import AlbertForQuestionAnswering as AlbertForQuestionAnswering
from .families.albert import AlbertForSequenceClassification as AlbertForSequenceClassification
from .families.albert import AlbertForTokenClassification as AlbertForTokenClassification
from .families.albert import AlbertModel as AlbertModel
from .families.bart import BartConfig as BartConfig
from .families.bart import BartPretrained
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
from .families.blenderbot import BlenderbotConfig as BlenderbotConfig
from .families.blenderbot_small import BlenderbotSmallConfig as BlenderbotSmallConfig
from .families.bloom import BloomConfig as BloomConfig
from .families.bloom import BloomPretrained
from .families.camembert import CamembertConfig as CamembertConfig
from .families.camembert import CamembertForCausalLM as CamembertForCausalLM
from .families.camembert import CamembertForMaskedLM as CamembertForMaskedLM
from .families.camembert import CamembertForMultipleChoice as CamembertForMultipleChoice
from .families.camembert import CamembertForQuestionAnswering as CamembertForQuestionAnswering
from .families.camembert import (
    CamembertForSequenceClassification as CamembertForSequenceClassification,
)
from .families.camembert import CamembertForTokenClassification as CamembertForTokenClassification
from .families.camembert import CamembertModel as CamembertModel
from .families.cohere import CohereConfig as CohereConfig
from .families.cohere2 import Cohere2Config as Cohere2Config
from .families.deberta import DebertaConfig as DebertaConfig
from .families.deberta import DebertaModel as DebertaModel
from .families.deberta import DebertaPretrained
from .families.deberta_v2 import DebertaV2Config as DebertaV2Config
from .families.deberta_v2 import DebertaV2Model as DebertaV2Model
from .families.deberta_v2 import DebertaV2Pretrained
from .families.distilbert import DistilBertConfig as DistilBertConfig
from .families.distilbert import DistilBertForMaskedLM as DistilBertForMaskedLM
from .families.distilbert import DistilBertForMultipleChoice as DistilBertForMultipleChoice
from .families.distilbert import DistilBertForQuestionAnswering as DistilBertForQuestionAnswering
from .families.distilbert import (
    DistilBertForSequenceClassification as DistilBertForSequenceClassification,
)
from .families.distilbert import (
    DistilBertForTokenClassification as DistilBertForTokenClassification,
)
from .families.distilbert import DistilBertModel as DistilBertModel
from .families.electra import ElectraConfig as ElectraConfig
from .families.electra import ElectraForCausalLM as ElectraForCausalLM
from .families.electra import ElectraForMaskedLM as ElectraForMaskedLM
from .families.electra import ElectraForMultipleChoice as ElectraForMultipleChoice
from .families.electra import ElectraForPreTraining as ElectraForPreTraining
from .families.electra import ElectraForQuestionAnswering as ElectraForQuestionAnswering
from .families.electra import ElectraForSequenceClassification as ElectraForSequenceClassification
from .families.electra import ElectraForTokenClassification as ElectraForTokenClassification
from .families.electra import ElectraModel as ElectraModel
from .families.encoder_decoder import EncoderDecoderConfig as EncoderDecoderConfig
from .families.encoder_decoder import EncoderDecoderModel as EncoderDecoderModel
from .families.eurobert import EuroBertConfig as EuroBertConfig
from .families.eurobert import EuroBertPretrained
from .families.eurobert import SequenceClassification as EurobertSequenceClassification
from .families.eurobert import TokenClassification as EurobertTokenClassification
from .families.falcon import FalconConfig as FalconConfig
from .families.falcon import FalconPretrained
from .families.gemma import GemmaConfig as GemmaConfig
from .families.gemma2 import Gemma2Config as Gemma2Config
from .families.gemma3_text import Gemma3TextConfig as Gemma3TextConfig
from .families.gemma3_text import Gemma3TextPretrained
from .families.glm4 import Glm4Config as Glm4Config
from .families.glm4 import Glm4Pretrained
from .families.gpt2 import GPT2Config as GPT2Config
from .families.gpt2 import GPT2DoubleHeadsModel as GPT2DoubleHeadsModel
from .families.gpt2 import GPT2Model as GPT2Model
from .families.gpt2 import GPT2Pretrained
from .families.gpt_neo import GPTNeoConfig as GPTNeoConfig
from .families.gpt_neo import GPTNeoModel as GPTNeoModel
from .families.gpt_neo import GPTNeoPretrained
from .families.gpt_neox import GPTNeoXConfig as GPTNeoXConfig
from .families.gpt_neox import GPTNeoXForCausalLM as GPTNeoXForCausalLM
from .families.gpt_neox import GPTNeoXModel as GPTNeoXModel
from .families.gpt_neox import GPTNeoXPretrained
from .families.gptj import GPTJConfig as GPTJConfig
from .families.gptj import GPTJModel as GPTJModel
from .families.gptj import GPTJPretrained
from .families.granite import GraniteConfig as GraniteConfig
from .families.gte import GteConfig as GteConfig
from .families.gte import GtePretrained
from .families.llama import LlamaConfig as LlamaConfig
from .families.longt5 import LongT5Config as LongT5Config
from .families.longt5 import LongT5Pretrained
from .families.m2m_100 import M2M100Config as M2M100Config
from .families.marian import MarianConfig as MarianConfig
from .families.mbart import MBartConfig as MBartConfig
from .families.mbart import MBartPretrained
from .families.ministral3 import Ministral3Config as Ministral3Config
from .families.mistral import MistralConfig as MistralConfig
from .families.modernbert import ModernBertConfig as ModernBertConfig
from .families.modernbert import ModernBertModel as ModernBertModel
from .families.modernbert import ModernBertPretrained
from .families.mpnet import MPNetConfig as MPNetConfig
from .families.mpnet import MPNetForMaskedLM as MPNetForMaskedLM
from .families.mpnet import MPNetForMultipleChoice as MPNetForMultipleChoice
from .families.mpnet import MPNetForQuestionAnswering as MPNetForQuestionAnswering
from .families.mpnet import MPNetForSequenceClassification as MPNetForSequenceClassification
from .families.mpnet import MPNetForTokenClassification as MPNetForTokenClassification
from .families.mpnet import MPNetModel as MPNetModel
from .families.mt5 import MT5Config as MT5Config
from .families.nomic_bert import NomicBertConfig as NomicBertConfig
from .families.nomic_bert import NomicBertPretrained
from .families.olmo2 import Olmo2Config as Olmo2Config
from .families.olmo3 import Olmo3Config as Olmo3Config
from .families.opt import OPTConfig as OPTConfig
from .families.opt import OPTModel as OPTModel
from .families.opt import OPTPretrained
from .families.pegasus import PegasusConfig as PegasusConfig
from .families.phi import PhiConfig as PhiConfig
from .families.phi3 import Phi3Config as Phi3Config
from .families.phi3 import Phi3Pretrained
from .families.qwen2 import Qwen2Config as Qwen2Config
from .families.qwen3 import Qwen3Config as Qwen3Config
from .families.roberta import RobertaConfig as RobertaConfig
from .families.roberta import RobertaForCausalLM as RobertaForCausalLM
from .families.roberta import RobertaForMaskedLM as RobertaForMaskedLM
from .families.roberta import RobertaForMultipleChoice as RobertaForMultipleChoice
from .families.roberta import RobertaForQuestionAnswering as RobertaForQuestionAnswering
from .families.roberta import RobertaForSequenceClassification as RobertaForSequenceClassification
from .families.roberta import RobertaForTokenClassification as RobertaForTokenClassification
from .families.roberta import RobertaModel as RobertaModel
from .families.roberta_prelayernorm import RobertaPreLayerNormConfig as RobertaPreLayerNormConfig
from .families.roberta_prelayernorm import (
    RobertaPreLayerNormForCausalLM as RobertaPreLayerNormForCausalLM,
)
from .families.roberta_prelayernorm import (
    RobertaPreLayerNormForMaskedLM as RobertaPreLayerNormForMaskedLM,
)
from .families.roberta_prelayernorm import (
    RobertaPreLayerNormForMultipleChoice as RobertaPreLayerNormForMultipleChoice,
)
from .families.roberta_prelayernorm import (
    RobertaPreLayerNormForQuestionAnswering as RobertaPreLayerNormForQuestionAnswering,
)
from .families.roberta_prelayernorm import (
    RobertaPreLayerNormForSequenceClassification as RobertaPreLayerNormForSequenceClassification,
)
from .families.roberta_prelayernorm import (
    RobertaPreLayerNormForTokenClassification as RobertaPreLayerNormForTokenClassification,
)
from .families.roberta_prelayernorm import RobertaPreLayerNormModel as RobertaPreLayerNormModel
from .families.roformer import RoFormerConfig as RoFormerConfig
from .families.roformer import RoFormerForCausalLM as RoFormerForCausalLM
from .families.roformer import RoFormerForMaskedLM as RoFormerForMaskedLM
from .families.roformer import RoFormerForMultipleChoice as RoFormerForMultipleChoice
from .families.roformer import RoFormerForQuestionAnswering as RoFormerForQuestionAnswering
from .families.roformer import (
    RoFormerForSequenceClassification as RoFormerForSequenceClassification,
)
from .families.roformer import RoFormerForTokenClassification as RoFormerForTokenClassification
from .families.roformer import RoFormerModel as RoFormerModel
from .families.smollm3 import SmolLM3Config as SmolLM3Config
from .families.stablelm import StableLmConfig as StableLmConfig
from .families.stablelm import StableLmPretrained
from .families.starcoder2 import Starcoder2Config as Starcoder2Config
from .families.t5 import T5Config as T5Config
from .families.umt5 import UMT5Config as UMT5Config
from .families.xglm import XGLMConfig as XGLMConfig
from .families.xglm import XGLMModel as XGLMModel
from .families.xglm import XGLMPretrained
from .families.xlm_roberta import XLMRobertaConfig as XLMRobertaConfig
from .families.xlm_roberta import XLMRobertaForCausalLM as XLMRobertaForCausalLM
from .families.xlm_roberta import XLMRobertaForMaskedLM as XLMRobertaForMaskedLM
from .families.xlm_roberta import XLMRobertaForMultipleChoice as XLMRobertaForMultipleChoice
from .families.xlm_roberta import XLMRobertaForQuestionAnswering as XLMRobertaForQuestionAnswering
from .families.xlm_roberta import (
    XLMRobertaForSequenceClassification as XLMRobertaForSequenceClassification,
)
from .families.xlm_roberta import (
    XLMRobertaForTokenClassification as XLMRobertaForTokenClassification,
)
from .families.xlm_roberta import XLMRobertaModel as XLMRobertaModel
from .families.xlm_roberta_xl import XLMRobertaXLConfig as XLMRobertaXLConfig
from .families.xlm_roberta_xl import XLMRobertaXLForCausalLM as XLMRobertaXLForCausalLM
from .families.xlm_roberta_xl import XLMRobertaXLForMaskedLM as XLMRobertaXLForMaskedLM
from .families.xlm_roberta_xl import XLMRobertaXLForMultipleChoice as XLMRobertaXLForMultipleChoice
from .families.xlm_roberta_xl import (
    XLMRobertaXLForQuestionAnswering as XLMRobertaXLForQuestionAnswering,
)
from .families.xlm_roberta_xl import (
    XLMRobertaXLForSequenceClassification as XLMRobertaXLForSequenceClassification,
)
from .families.xlm_roberta_xl import (
    XLMRobertaXLForTokenClassification as XLMRobertaXLForTokenClassification,
)
from .families.xlm_roberta_xl import XLMRobertaXLModel as XLMRobertaXLModel
from .hub import HubError as HubError
from .hub import download as download
from .hub import push_files as push_files
from .models.base import PretrainedModel as PretrainedModel
from .models.decoder_model import DecoderModel, DecoderPretrained
from .models.encoder_decoders.fairseq import (
    FairseqCausalLM,
    FairseqConditionalGeneration,
    FairseqModel,
    FairseqQuestionAnswering,
    FairseqSequenceClassification,
    FairseqTranslation,
    FairseqUnbiased,
)
from .models.encoder_decoders.t5 import (
    T5Answering,
    T5Bare,
    T5Classification,
    T5EncoderAlone,
    T5Generation,
    T5TokenClassification,
)
from .models.encoders.disentangled import LegacyMaskedLM
from .models.encoders.disentangled import MultipleChoice as DisentangledMultipleChoice
from .models.encoders.disentangled import (
    SequenceClassification as DisentangledSequenceClassification,
)
from .models.encoders.disentangled import TokenClassification as DisentangledTokenClassification
from .models.encoders.heads import MaskedLM as HeadsMaskedLM
from .models.encoders.heads import PooledClassification
from .models.encoders.heads import QuestionAnswering as HeadsQuestionAnswering
from .models.encoders.heads import TokenClassification as HeadsTokenClassification
from .models.encoders.model import UnpooledEncoderModel
from .models.encoders.transformed import MultipleChoice as TransformedMultipleChoice
from .models.encoders.transformed import QuestionAnswering as TransformedQuestionAnswering
from .models.encoders.transformed import SequenceClassification as TransformedSequenceClassification
from .models.encoders.transformed import TokenClassification as TransformedTokenClassification
from .models.task_heads import CausalLM, LastTokenClassification
from .models.task_heads import MaskedLM as TaskHeadsMaskedLM
from .models.task_heads import QuestionAnswering as TaskHeadsQuestionAnswering
from .models.task_heads import TokenClassification as TaskHeadsTokenClassification
from .params import CheckpointError as CheckpointError
from .registration import register_for_auto_class as register_for_auto_class
from .text import load_tokenizer as load_tokenizer

__version__: str

class BartModel(BartPretrained, FairseqModel): ...
class BartForConditionalGeneration(BartPretrained, FairseqConditionalGeneration): ...
class BartForSequenceClassification(BartPretrained, FairseqSequenceClassification): ...
class BartForQuestionAnswering(BartPretrained, FairseqQuestionAnswering): ...
class BartForCausalLM(BartPretrained, FairseqCausalLM): ...
class BlenderbotModel(FairseqModel): ...
class BlenderbotForConditionalGeneration(FairseqConditionalGeneration): ...
class BlenderbotForCausalLM(FairseqCausalLM): ...
class BlenderbotSmallModel(FairseqModel): ...
class BlenderbotSmallForConditionalGeneration(FairseqConditionalGeneration): ...
class BlenderbotSmallForCausalLM(FairseqCausalLM): ...
class BloomModel(BloomPretrained, DecoderModel): ...
class BloomForCausalLM(BloomPretrained, CausalLM): ...
class BloomForSequenceClassification(BloomPretrained, LastTokenClassification): ...
class BloomForTokenClassification(BloomPretrained, TaskHeadsTokenClassification): ...
class BloomForQuestionAnswering(BloomPretrained, TaskHeadsQuestionAnswering): ...
class CohereModel(DecoderModel): ...
class CohereForCausalLM(DecoderPretrained, CausalLM): ...
class Cohere2Model(DecoderModel): ...
class Cohere2ForCausalLM(DecoderPretrained, CausalLM): ...
class DebertaForMaskedLM(DebertaPretrained, LegacyMaskedLM): ...
class DebertaForSequenceClassification(DebertaPretrained, DisentangledSequenceClassification): ...
class DebertaForTokenClassification(DebertaPretrained, DisentangledTokenClassification): ...
class DebertaForQuestionAnswering(DebertaPretrained, HeadsQuestionAnswering): ...
class DebertaV2ForMaskedLM(DebertaV2Pretrained, LegacyMaskedLM): ...
class DebertaV2ForSequenceClassification(
    DebertaV2Pretrained, DisentangledSequenceClassification
): ...
class DebertaV2ForTokenClassification(DebertaV2Pretrained, DisentangledTokenClassification): ...
class DebertaV2ForQuestionAnswering(DebertaV2Pretrained, HeadsQuestionAnswering): ...
class DebertaV2ForMultipleChoice(DebertaV2Pretrained, DisentangledMultipleChoice): ...
class EuroBertModel(EuroBertPretrained, DecoderModel): ...
class EuroBertForMaskedLM(EuroBertPretrained, TaskHeadsMaskedLM): ...
class EuroBertForSequenceClassification(EuroBertPretrained, EurobertSequenceClassification): ...
class EuroBertForTokenClassification(EuroBertPretrained, EurobertTokenClassification): ...
class FalconModel(FalconPretrained, DecoderModel): ...
class FalconForCausalLM(FalconPretrained, CausalLM): ...
class FalconForSequenceClassification(FalconPretrained, LastTokenClassification): ...
class FalconForTokenClassification(FalconPretrained, TaskHeadsTokenClassification): ...
class FalconForQuestionAnswering(FalconPretrained, TaskHeadsQuestionAnswering): ...
class GemmaModel(DecoderModel): ...
class GemmaForCausalLM(DecoderPretrained, CausalLM): ...
class GemmaForSequenceClassification(DecoderPretrained, LastTokenClassification): ...
class GemmaForTokenClassification(DecoderPretrained, TaskHeadsTokenClassification): ...
class Gemma2Model(DecoderModel): ...
class Gemma2ForCausalLM(DecoderPretrained, CausalLM): ...
class Gemma2ForSequenceClassification(DecoderPretrained, LastTokenClassification): ...
class Gemma2ForTokenClassification(DecoderPretrained, TaskHeadsTokenClassification): ...
class Gemma3TextModel(Gemma3TextPretrained, DecoderModel): ...
class Gemma3TextForSequenceClassification(Gemma3TextPretrained, LastTokenClassification): ...
class Gemma3ForCausalLM(Gemma3TextPretrained, CausalLM): ...
class Glm4Model(Glm4Pretrained, DecoderModel): ...
class Glm4ForCausalLM(Glm4Pretrained, CausalLM): ...
class Glm4ForSequenceClassification(Glm4Pretrained, LastTokenClassification): ...
class Glm4ForTokenClassification(Glm4Pretrained, TaskHeadsTokenClassification): ...
class GPT2LMHeadModel(GPT2Pretrained, CausalLM): ...
class GPT2ForSequenceClassification(GPT2Pretrained, LastTokenClassification): ...
class GPT2ForTokenClassification(GPT2Pretrained, TaskHeadsTokenClassification): ...
class GPT2ForQuestionAnswering(GPT2Pretrained, TaskHeadsQuestionAnswering): ...
class GPTNeoForCausalLM(GPTNeoPretrained, CausalLM): ...
class GPTNeoForSequenceClassification(GPTNeoPretrained, LastTokenClassification): ...
class GPTNeoForTokenClassification(GPTNeoPretrained, TaskHeadsTokenClassification): ...
class GPTNeoForQuestionAnswering(GPTNeoPretrained, TaskHeadsQuestionAnswering): ...
class GPTNeoXForSequenceClassification(GPTNeoXPretrained, LastTokenClassification): ...
class GPTNeoXForTokenClassification(GPTNeoXPretrained, TaskHeadsTokenClassification): ...
class GPTNeoXForQuestionAnswering(GPTNeoXPretrained, TaskHeadsQuestionAnswering): ...
class GPTJForCausalLM(GPTJPretrained, CausalLM): ...
class GPTJForSequenceClassification(GPTJPretrained, LastTokenClassification): ...
class GPTJForQuestionAnswering(GPTJPretrained, TaskHeadsQuestionAnswering): ...
class GraniteModel(DecoderModel): ...
class GraniteForCausalLM(DecoderPretrained, CausalLM): ...
class GteModel(GtePretrained, UnpooledEncoderModel): ...
class GteForMaskedLM(GtePretrained, HeadsMaskedLM): ...
class GteForSequenceClassification(GtePretrained, PooledClassification): ...
class GteForTokenClassification(GtePretrained, HeadsTokenClassification): ...
class LlamaModel(DecoderModel): ...
class LlamaForCausalLM(DecoderPretrained, CausalLM): ...
class LlamaForSequenceClassification(DecoderPretrained, LastTokenClassification): ...
class LlamaForTokenClassification(DecoderPretrained, TaskHeadsTokenClassification): ...
class LlamaForQuestionAnswering(DecoderPretrained, TaskHeadsQuestionAnswering): ...
class LongT5Model(LongT5Pretrained, T5Bare): ...
class LongT5ForConditionalGeneration(LongT5Pretrained, T5Generation): ...
class LongT5EncoderModel(LongT5Pretrained, T5EncoderAlone): ...
class M2M100Model(FairseqModel): ...
class M2M100ForConditionalGeneration(FairseqUnbiased): ...
class MarianModel(FairseqModel): ...
class MarianMTModel(FairseqTranslation): ...
class MarianForCausalLM(FairseqCausalLM): ...
class MBartModel(MBartPretrained, FairseqModel): ...
class MBartForConditionalGeneration(MBartPretrained, FairseqConditionalGeneration): ...
class MBartForSequenceClassification(MBartPretrained, FairseqSequenceClassification): ...
class MBartForQuestionAnswering(MBartPretrained, FairseqQuestionAnswering): ...
class MBartForCausalLM(MBartPretrained, FairseqCausalLM): ...
class Ministral3Model(DecoderModel): ...
class Ministral3ForCausalLM(DecoderPretrained, CausalLM): ...
class Ministral3ForSequenceClassification(DecoderPretrained, LastTokenClassification): ...
class Ministral3ForTokenClassification(DecoderPretrained, TaskHeadsTokenClassification): ...
class Ministral3ForQuestionAnswering(DecoderPretrained, TaskHeadsQuestionAnswering): ...
class MistralModel(DecoderModel): ...
class MistralForCausalLM(DecoderPretrained, CausalLM): ...
class MistralForSequenceClassification(DecoderPretrained, LastTokenClassification): ...
class MistralForTokenClassification(DecoderPretrained, TaskHeadsTokenClassification): ...
class MistralForQuestionAnswering(DecoderPretrained, TaskHeadsQuestionAnswering): ...
class ModernBertForMaskedLM(ModernBertPretrained, HeadsMaskedLM): ...
class ModernBertForSequenceClassification(
    ModernBertPretrained, TransformedSequenceClassification
): ...
class ModernBertForTokenClassification(ModernBertPretrained, TransformedTokenClassification): ...
class ModernBertForQuestionAnswering(ModernBertPretrained, TransformedQuestionAnswering): ...
class ModernBertForMultipleChoice(ModernBertPretrained, TransformedMultipleChoice): ...
class MT5Model(T5Bare): ...
class MT5ForConditionalGeneration(T5Generation): ...
class MT5EncoderModel(T5EncoderAlone): ...
class MT5ForSequenceClassification(T5Classification): ...
class MT5ForTokenClassification(T5TokenClassification): ...
class MT5ForQuestionAnswering(T5Answering): ...
class NomicBertModel(NomicBertPretrained, UnpooledEncoderModel): ...
class NomicBertForMaskedLM(NomicBertPretrained, HeadsMaskedLM): ...
class NomicBertForSequenceClassification(NomicBertPretrained, PooledClassification): ...
class NomicBertForTokenClassification(NomicBertPretrained, HeadsTokenClassification): ...
class Olmo2Model(DecoderModel): ...
class Olmo2ForCausalLM(DecoderPretrained, CausalLM): ...
class Olmo2ForSequenceClassification(DecoderPretrained, LastTokenClassification): ...
class Olmo3Model(DecoderModel): ...
class Olmo3ForCausalLM(DecoderPretrained, CausalLM): ...
class Olmo3ForSequenceClassification(DecoderPretrained, LastTokenClassification): ...
class OPTForCausalLM(OPTPretrained, CausalLM): ...
class OPTForSequenceClassification(OPTPretrained, LastTokenClassification): ...
class OPTForQuestionAnswering(OPTPretrained, TaskHeadsQuestionAnswering): ...
class PegasusModel(FairseqModel): ...
class PegasusForConditionalGeneration(FairseqConditionalGeneration): ...
class PegasusForCausalLM(FairseqCausalLM): ...
class PhiModel(DecoderModel): ...
class PhiForCausalLM(DecoderPretrained, CausalLM): ...
class PhiForSequenceClassification(DecoderPretrained, LastTokenClassification): ...
class PhiForTokenClassification(DecoderPretrained, TaskHeadsTokenClassification): ...
class Phi3Model(Phi3Pretrained, DecoderModel): ...
class Phi3ForCausalLM(Phi3Pretrained, CausalLM): ...
class Phi3ForSequenceClassification(Phi3Pretrained, LastTokenClassification): ...
class Phi3ForTokenClassification(Phi3Pretrained, TaskHeadsTokenClassification): ...
class Qwen2Model(DecoderModel): ...
class Qwen2ForCausalLM(DecoderPretrained, CausalLM): ...
class Qwen2ForSequenceClassification(DecoderPretrained, LastTokenClassification): ...
class Qwen2ForTokenClassification(DecoderPretrained, TaskHeadsTokenClassification): ...
class Qwen2ForQuestionAnswering(DecoderPretrained, TaskHeadsQuestionAnswering): ...
class Qwen3Model(DecoderModel): ...
class Qwen3ForCausalLM(DecoderPretrained, CausalLM): ...
class Qwen3ForSequenceClassification(DecoderPretrained, LastTokenClassification): ...
class Qwen3ForTokenClassification(DecoderPretrained, TaskHeadsTokenClassification): ...
class Qwen3ForQuestionAnswering(DecoderPretrained, TaskHeadsQuestionAnswering): ...
class SmolLM3Model(DecoderModel): ...
class SmolLM3ForCausalLM(DecoderPretrained, CausalLM): ...
class SmolLM3ForSequenceClassification(DecoderPretrained, LastTokenClassification): ...
class SmolLM3ForTokenClassification(DecoderPretrained, TaskHeadsTokenClassification): ...
class SmolLM3ForQuestionAnswering(DecoderPretrained, TaskHeadsQuestionAnswering): ...
class StableLmModel(StableLmPretrained, DecoderModel): ...
class StableLmForCausalLM(StableLmPretrained, CausalLM): ...
class StableLmForSequenceClassification(StableLmPretrained, LastTokenClassification): ...
class StableLmForTokenClassification(StableLmPretrained, TaskHeadsTokenClassification): ...
class Starcoder2Model(DecoderModel): ...
class Starcoder2ForCausalLM(DecoderPretrained, CausalLM): ...
class Starcoder2ForSequenceClassification(DecoderPretrained, LastTokenClassification): ...
class Starcoder2ForTokenClassification(DecoderPretrained, TaskHeadsTokenClassification): ...
class T5Model(T5Bare): ...
class T5ForConditionalGeneration(T5Generation): ...
class T5EncoderModel(T5EncoderAlone): ...
class T5ForSequenceClassification(T5Classification): ...
class T5ForTokenClassification(T5TokenClassification): ...
class T5ForQuestionAnswering(T5Answering): ...
class UMT5Model(T5Bare): ...
class UMT5ForConditionalGeneration(T5Generation): ...
class UMT5EncoderModel(T5EncoderAlone): ...
class UMT5ForSequenceClassification(T5Classification): ...
class UMT5ForTokenClassification(T5TokenClassification): ...
class UMT5ForQuestionAnswering(T5Answering): ...
class XGLMForCausalLM(XGLMPretrained, CausalLM): ...

BertForCausalLM = BertLMHeadModel
FlaxAlbertForMaskedLM = AlbertForMaskedLM
FlaxAlbertForMultipleChoice = AlbertForMultipleChoice
FlaxAlbertForPreTraining = AlbertForPreTraining
FlaxAlbertForQuestionAnswering = AlbertForQuestionAnswering
FlaxAlbertForSequenceClassification = AlbertForSequenceClassification
FlaxAlbertForTokenClassification = AlbertForTokenClassification
FlaxAlbertModel = AlbertModel
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
FlaxBartForCausalLM = BartForCausalLM
FlaxBartForConditionalGeneration = BartForConditionalGeneration
FlaxBartForQuestionAnswering = BartForQuestionAnswering
FlaxBartForSequenceClassification = BartForSequenceClassification
FlaxBartModel = BartModel
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
FlaxBlenderbotForCausalLM = BlenderbotForCausalLM
FlaxBlenderbotForConditionalGeneration = BlenderbotForConditionalGeneration
FlaxBlenderbotModel = BlenderbotModel
FlaxBlenderbotSmallForCausalLM = BlenderbotSmallForCausalLM
FlaxBlenderbotSmallForConditionalGeneration = BlenderbotSmallForConditionalGeneration
FlaxBlenderbotSmallModel = BlenderbotSmallModel
FlaxBloomForCausalLM = BloomForCausalLM
FlaxBloomForQuestionAnswering = BloomForQuestionAnswering
FlaxBloomForSequenceClassification = BloomForSequenceClassification
FlaxBloomForTokenClassification = BloomForTokenClassification
FlaxBloomModel = BloomModel
FlaxCamembertForCausalLM = CamembertForCausalLM
FlaxCamembertForMaskedLM = CamembertForMaskedLM
FlaxCamembertForMultipleChoice = CamembertForMultipleChoice
FlaxCamembertForQuestionAnswering = CamembertForQuestionAnswering
FlaxCamembertForSequenceClassification = CamembertForSequenceClassification
FlaxCamembertForTokenClassification = CamembertForTokenClassification
FlaxCamembertModel = CamembertModel
FlaxCohere2ForCausalLM = Cohere2ForCausalLM
FlaxCohere2Model = Cohere2Model
FlaxCohereForCausalLM = CohereForCausalLM
FlaxCohereModel = CohereModel
FlaxDebertaForMaskedLM = DebertaForMaskedLM
FlaxDebertaForQuestionAnswering = DebertaForQuestionAnswering
FlaxDebertaForSequenceClassification = DebertaForSequenceClassification
FlaxDebertaForTokenClassification = DebertaForTokenClassification
FlaxDebertaModel = DebertaModel
FlaxDebertaV2ForMaskedLM = DebertaV2ForMaskedLM
FlaxDebertaV2ForMultipleChoice = DebertaV2ForMultipleChoice
FlaxDebertaV2ForQuestionAnswering = DebertaV2ForQuestionAnswering
FlaxDebertaV2ForSequenceClassification = DebertaV2ForSequenceClassification
FlaxDebertaV2ForTokenClassification = DebertaV2ForTokenClassification
FlaxDebertaV2Model = DebertaV2Model
FlaxDistilBertForMaskedLM = DistilBertForMaskedLM
FlaxDistilBertForMultipleChoice = DistilBertForMultipleChoice
FlaxDistilBertForQuestionAnswering = DistilBertForQuestionAnswering
FlaxDistilBertForSequenceClassification = DistilBertForSequenceClassification
FlaxDistilBertForTokenClassification = DistilBertForTokenClassification
FlaxDistilBertModel = DistilBertModel
FlaxElectraForCausalLM = ElectraForCausalLM
FlaxElectraForMaskedLM = ElectraForMaskedLM
FlaxElectraForMultipleChoice = ElectraForMultipleChoice
FlaxElectraForPreTraining = ElectraForPreTraining
FlaxElectraForQuestionAnswering = ElectraForQuestionAnswering
FlaxElectraForSequenceClassification = ElectraForSequenceClassification
FlaxElectraForTokenClassification = ElectraForTokenClassification
FlaxElectraModel = ElectraModel
FlaxEncoderDecoderModel = EncoderDecoderModel
FlaxEuroBertForMaskedLM = EuroBertForMaskedLM
FlaxEuroBertForSequenceClassification = EuroBertForSequenceClassification
FlaxEuroBertForTokenClassification = EuroBertForTokenClassification
FlaxEuroBertModel = EuroBertModel
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
FlaxGteForMaskedLM = GteForMaskedLM
FlaxGteForSequenceClassification = GteForSequenceClassification
FlaxGteForTokenClassification = GteForTokenClassification
FlaxGteModel = GteModel
FlaxLlamaForCausalLM = LlamaForCausalLM
FlaxLlamaForQuestionAnswering = LlamaForQuestionAnswering
FlaxLlamaForSequenceClassification = LlamaForSequenceClassification
FlaxLlamaForTokenClassification = LlamaForTokenClassification
FlaxLlamaModel = LlamaModel
FlaxLongT5EncoderModel = LongT5EncoderModel
FlaxLongT5ForConditionalGeneration = LongT5ForConditionalGeneration
FlaxLongT5Model = LongT5Model
FlaxM2M100ForConditionalGeneration = M2M100ForConditionalGeneration
FlaxM2M100Model = M2M100Model
FlaxMBartForCausalLM = MBartForCausalLM
FlaxMBartForConditionalGeneration = MBartForConditionalGeneration
FlaxMBartForQuestionAnswering = MBartForQuestionAnswering
FlaxMBartForSequenceClassification = MBartForSequenceClassification
FlaxMBartModel = MBartModel
FlaxMPNetForMaskedLM = MPNetForMaskedLM
FlaxMPNetForMultipleChoice = MPNetForMultipleChoice
FlaxMPNetForQuestionAnswering = MPNetForQuestionAnswering
FlaxMPNetForSequenceClassification = MPNetForSequenceClassification
FlaxMPNetForTokenClassification = MPNetForTokenClassification
FlaxMPNetModel = MPNetModel
FlaxMT5EncoderModel = MT5EncoderModel
FlaxMT5ForConditionalGeneration = MT5ForConditionalGeneration
FlaxMT5ForQuestionAnswering = MT5ForQuestionAnswering
FlaxMT5ForSequenceClassification = MT5ForSequenceClassification
FlaxMT5ForTokenClassification = MT5ForTokenClassification
FlaxMT5Model = MT5Model
FlaxMarianForCausalLM = MarianForCausalLM
FlaxMarianMTModel = MarianMTModel
FlaxMarianModel = MarianModel
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
FlaxModernBertForMaskedLM = ModernBertForMaskedLM
FlaxModernBertForMultipleChoice = ModernBertForMultipleChoice
FlaxModernBertForQuestionAnswering = ModernBertForQuestionAnswering
FlaxModernBertForSequenceClassification = ModernBertForSequenceClassification
FlaxModernBertForTokenClassification = ModernBertForTokenClassification
FlaxModernBertModel = ModernBertModel
FlaxNomicBertForMaskedLM = NomicBertForMaskedLM
FlaxNomicBertForSequenceClassification = NomicBertForSequenceClassification
FlaxNomicBertForTokenClassification = NomicBertForTokenClassification
FlaxNomicBertModel = NomicBertModel
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
FlaxPegasusForCausalLM = PegasusForCausalLM
FlaxPegasusForConditionalGeneration = PegasusForConditionalGeneration
FlaxPegasusModel = PegasusModel
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
FlaxRoFormerForCausalLM = RoFormerForCausalLM
FlaxRoFormerForMaskedLM = RoFormerForMaskedLM
FlaxRoFormerForMultipleChoice = RoFormerForMultipleChoice
FlaxRoFormerForQuestionAnswering = RoFormerForQuestionAnswering
FlaxRoFormerForSequenceClassification = RoFormerForSequenceClassification
FlaxRoFormerForTokenClassification = RoFormerForTokenClassification
FlaxRoFormerModel = RoFormerModel
FlaxRobertaForCausalLM = RobertaForCausalLM
FlaxRobertaForMaskedLM = RobertaForMaskedLM
FlaxRobertaForMultipleChoice = RobertaForMultipleChoice
FlaxRobertaForQuestionAnswering = RobertaForQuestionAnswering
FlaxRobertaForSequenceClassification = RobertaForSequenceClassification
FlaxRobertaForTokenClassification = RobertaForTokenClassification
FlaxRobertaModel = RobertaModel
FlaxRobertaPreLayerNormForCausalLM = RobertaPreLayerNormForCausalLM
FlaxRobertaPreLayerNormForMaskedLM = RobertaPreLayerNormForMaskedLM
FlaxRobertaPreLayerNormForMultipleChoice = RobertaPreLayerNormForMultipleChoice
FlaxRobertaPreLayerNormForQuestionAnswering = RobertaPreLayerNormForQuestionAnswering
FlaxRobertaPreLayerNormForSequenceClassification = RobertaPreLayerNormForSequenceClassification
FlaxRobertaPreLayerNormForTokenClassification = RobertaPreLayerNormForTokenClassification
FlaxRobertaPreLayerNormModel = RobertaPreLayerNormModel
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
FlaxT5EncoderModel = T5EncoderModel
FlaxT5ForConditionalGeneration = T5ForConditionalGeneration
FlaxT5ForQuestionAnswering = T5ForQuestionAnswering
FlaxT5ForSequenceClassification = T5ForSequenceClassification
FlaxT5ForTokenClassification = T5ForTokenClassification
FlaxT5Model = T5Model
FlaxUMT5EncoderModel = UMT5EncoderModel
FlaxUMT5ForConditionalGeneration = UMT5ForConditionalGeneration
FlaxUMT5ForQuestionAnswering = UMT5ForQuestionAnswering
FlaxUMT5ForSequenceClassification = UMT5ForSequenceClassification
FlaxUMT5ForTokenClassification = UMT5ForTokenClassification
FlaxUMT5Model = UMT5Model
FlaxXGLMForCausalLM = XGLMForCausalLM
FlaxXGLMModel = XGLMModel
FlaxXLMRobertaForCausalLM = XLMRobertaForCausalLM
FlaxXLMRobertaForMaskedLM = XLMRobertaForMaskedLM
FlaxXLMRobertaForMultipleChoice = XLMRobertaForMultipleChoice
FlaxXLMRobertaForQuestionAnswering = XLMRobertaForQuestionAnswering
FlaxXLMRobertaForSequenceClassification = XLMRobertaForSequenceClassification
FlaxXLMRobertaForTokenClassification = XLMRobertaForTokenClassification
FlaxXLMRobertaModel = XLMRobertaModel
FlaxXLMRobertaXLForCausalLM = XLMRobertaXLForCausalLM
FlaxXLMRobertaXLForMaskedLM = XLMRobertaXLForMaskedLM
FlaxXLMRobertaXLForMultipleChoice = XLMRobertaXLForMultipleChoice
FlaxXLMRobertaXLForQuestionAnswering = XLMRobertaXLForQuestionAnswering
FlaxXLMRobertaXLForSequenceClassification = XLMRobertaXLForSequenceClassification
FlaxXLMRobertaXLForTokenClassification = XLMRobertaXLForTokenClassification
FlaxXLMRobertaXLModel = XLMRobertaXLModel
PreTrainedModel = PretrainedModel
PretrainedConfig = Config
