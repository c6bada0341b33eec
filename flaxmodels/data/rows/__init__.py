"""Rows of a dataset: where they come from, and what a model takes of them."""
