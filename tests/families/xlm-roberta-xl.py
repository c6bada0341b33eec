"""XLM-RoBERTa XL: norms before attention and MLP, none of the embeddings."""

LIKE = "roberta"
PREFIX = "XLMRobertaXL"
VARIANTS = {
    "untied": {"tie_word_embeddings": False},
    "cross": {"add_cross_attention": True},
}
