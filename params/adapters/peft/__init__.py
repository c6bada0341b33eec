"""PEFT's folders: configuration, targets and tensors of adapters; what needs no model."""
