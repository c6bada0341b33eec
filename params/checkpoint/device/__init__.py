"""Weights that devices transform themselves: stored bytes go to them as they lie in the files."""
