"""Pegasus: pre-norm, sinusoids that its files hold."""

LIKE = "blenderbot-small"
PREFIX = "Pegasus"
VARIANTS = {
    "scaled": {"scale_embedding": True, "activation_function": "relu"},
}
COMPUTED = ("embed_positions.weight",)
