"""Text: from a folder's files to token ids and back, and from the turns of a chat to text."""

from .load import TokenizerKeywords as TokenizerKeywords
from .load import load_tokenizer as load_tokenizer
from .streaming import TextStream as TextStream
from .template_process import TemplateError as TemplateError
from .tokenizer import Tokenizer as Tokenizer
