"""RoBERTa-PreLayerNorm: norms before attention and MLP, and one at the end."""

LIKE = "roberta"
PREFIX = "RobertaPreLayerNorm"
VARIANTS = {
    "untied": {"tie_word_embeddings": False},
    "cross": {"add_cross_attention": True},
}
