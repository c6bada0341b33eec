"""H5 files of Keras and Transformers."""

from .datasets import read_index as read_index
