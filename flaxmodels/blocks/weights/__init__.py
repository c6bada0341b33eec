"""Weights of blocks: made, multiplied and looked up, however they are held."""
