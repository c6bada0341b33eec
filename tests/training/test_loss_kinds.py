"""Which loss each class of the library is trained by."""

import pytest

from flaxmodels.core.head_kinds import KINDS
from flaxmodels.registry import FAMILIES, ending_of, family_class
from flaxmodels.training.losses.measures import MEASURES

BARE = {"Model", "EncoderModel"}
BY_ENDING = {
    "ForMaskedLM": {"masked_lm"},
    "ForCausalLM": {"causal_lm", "unshifted_lm"},
    "LMHeadModel": {"causal_lm"},
    "ForConditionalGeneration": {"seq2seq_lm", "restoring_lm"},
    "MTModel": {"restoring_lm"},
    "ForSequenceClassification": {"sequence_classification", "distribution_classification"},
    "ForTokenClassification": {"token_classification", "unpadded_token_classification"},
    "ForQuestionAnswering": {"question_answering"},
    "ForMultipleChoice": {"multiple_choice"},
    "ForNextSentencePrediction": {"next_sentence"},
    "ForPreTraining": {"pretraining", "sentence_order_pretraining", "replaced_tokens"},
    "DoubleHeadsModel": {"double_heads"},
}
"""Ending of a class's name -> the kinds that it may be of."""
APART = {
    "unshifted_lm": "Bart Blenderbot BlenderbotSmall MBart Marian Pegasus",
    "restoring_lm": "Bart Blenderbot BlenderbotSmall MBart Marian Pegasus",
    "distribution_classification": "Deberta DebertaV2",
    "unpadded_token_classification": "XLMRobertaXL",
    "pretraining": "Bert BigBird",
    "sentence_order_pretraining": "Albert",
    "replaced_tokens": "Electra",
    "double_heads": "GPT2",
    "next_sentence": "Bert",
}
"""Kind -> the families that have it, where one might think of another."""


@pytest.mark.parametrize("model_type", FAMILIES)
def test_T28_loss_kind(model_type):
    family = FAMILIES[model_type]
    for name in family.models:
        kind, ending = family_class(name).loss_kind, ending_of(name)
        if name == "EncoderDecoderModel":
            assert kind == "seq2seq_lm"
        elif ending in BARE:
            assert kind is None, name
        else:
            assert kind in BY_ENDING[ending] and kind in KINDS, name
            apart = {k for k, prefixes in APART.items() if family.prefix in prefixes.split()}
            wanted = BY_ENDING[ending] & apart
            assert kind in (wanted or BY_ENDING[ending] - APART.keys()), name


def test_all_kinds_are_of_some_class():
    names = (name for family in FAMILIES.values() for name in family.models)
    assert {family_class(name).loss_kind for name in names} - {None} == KINDS.keys()


def test_all_labels_are_compared_in_some_way():
    assert {name: len(kind.targets) for name, kind in KINDS.items()} == {
        name: len(measures) for name, measures in MEASURES.items()
    }
