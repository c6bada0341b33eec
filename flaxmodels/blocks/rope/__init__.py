"""Rotary position embedding, and the ways of stretching it to longer contexts."""
