"""Adapters of models: what `params/adapters/` does, by the names that PyTorch has for modules."""
