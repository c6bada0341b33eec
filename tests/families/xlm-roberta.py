"""XLM-RoBERTa: RoBERTa under another name."""

LIKE = "roberta"
PREFIX = "XLMRoberta"
VARIANTS = {
    "untied": {"tie_word_embeddings": False},
}
