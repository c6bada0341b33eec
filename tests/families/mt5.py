"""mT5: T5 with a gate and a head that is not scaled."""

LIKE = "umt5"
PREFIX = "MT5"
CONFIG = {"d_model": 24}
