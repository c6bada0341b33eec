"""A small checkpoint in the place of the bundled one, whose layers take longer to trace."""

import functools
import tempfile
from pathlib import Path

from _drawn import params_of, tiny_llama

import flaxmodels as fm


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    sizes = {"vocab_size": 256, "hidden_size": 64, "intermediate_size": 64}
    config = tiny_llama(**sizes, num_attention_heads=4, num_hidden_layers=1, initializer_range=0.3)
    model, made = fm.LlamaForCausalLM(config), tempfile.TemporaryDirectory()
    model.save_pretrained(params_of(model), made.name, progress=False)
    return made


def bundled_checkpoint() -> Path:
    """Returns a folder with a Llama of bytes, of one layer, whose weights no program has drawn."""
    return Path(_folder().name)
