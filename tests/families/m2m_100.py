"""M2M-100: pre-norm, sinusoids counted from the padding token on."""

LIKE = "blenderbot-small"
PREFIX = "M2M100"
CONFIG = {"pad_token_id": 1, "bos_token_id": 0}
CLASSES = {
    "M2M100Model": "AutoModel",
    "M2M100ForConditionalGeneration": "AutoModelForSeq2SeqLM",
}
VARIANTS = {
    "unscaled": {"scale_embedding": False},
}
GENERATING = "unscaled"
UNREAD = {"max_position_embeddings": "sinusoids go on beyond them, as the reference's do"}
