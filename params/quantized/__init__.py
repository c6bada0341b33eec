"""Quantised weights: how they are held, made, and read from checkpoints."""
