"""Text: from a folder's files to token ids and back, and from the turns of a chat to text."""

from .load import TokenizerKeywords as TokenizerKeywords
from .load import load_tokenizer as load_tokenizer
from .rendering import TemplateError as TemplateError
from .streaming import TextStream as TextStream
from .tokenizer import Tokenizer as Tokenizer
