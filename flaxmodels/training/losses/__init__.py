"""Losses: of each head, and cross-entropy over large vocabularies."""
