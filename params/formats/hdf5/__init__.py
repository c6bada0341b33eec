"""Keras's and Transformers' H5 files."""

from .datasets import read_index as read_index
