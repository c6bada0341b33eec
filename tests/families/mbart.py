"""mBART: pre-norm, the last token wraps to the front."""

LIKE = "blenderbot-small"
PREFIX = "MBart"
CLASSES = {
    "MBartModel": "AutoModel",
    "MBartForConditionalGeneration": "AutoModelForSeq2SeqLM",
    "MBartForSequenceClassification": "AutoModelForSequenceClassification",
    "MBartForQuestionAnswering": "AutoModelForQuestionAnswering",
    "MBartForCausalLM": "AutoModelForCausalLM",
}
VARIANTS = {
    "untied": {"tie_word_embeddings": False, "scale_embedding": True},
}
CHANGED = {"MBartForQuestionAnswering": {"num_labels": 2}}
