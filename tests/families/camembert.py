"""CamemBERT: RoBERTa under another name."""

LIKE = "roberta"
PREFIX = "Camembert"
VARIANTS = {
    "untied": {"tie_word_embeddings": False},
}
