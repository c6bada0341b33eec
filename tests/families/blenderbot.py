"""Blenderbot: pre-norm, learned positions without an offset."""

LIKE = "blenderbot-small"
PREFIX = "Blenderbot"
CONFIG = {"encoder_no_repeat_ngram_size": 0}
