"""GGUF, llama.cpp's format: metadata and tensors, most of them in blocks of quantised numbers, in
one file or several."""

from .files import open_gguf as open_gguf
from .header import Gguf as Gguf
from .metadata import Array as Array
from .metadata import Metadata as Metadata
