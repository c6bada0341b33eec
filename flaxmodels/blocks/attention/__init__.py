"""Scaled dot-product attention, and its masks."""
