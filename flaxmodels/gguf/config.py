"""The configuration of a GGUF file: its metadata, under the keys of `config.json`."""

from .. import params as fp
from ..documents.json_values import Json
from ..params.errors import quoted
from ..params.formats.gguf import Gguf
from .architectures import ARCHITECTURES, Architecture
from .keys import Keys

_TOKENS = {
    "bos_token_id": "tokenizer.ggml.bos_token_id",
    "eos_token_id": "tokenizer.ggml.eos_token_id",
    "pad_token_id": "tokenizer.ggml.padding_token_id",
}


def config_of(gguf: Gguf) -> dict[str, Json]:
    """Returns what `config.json` would say.

    Raises:
        CheckpointError: an architecture that is not read, a key that is not there or of another
            type, or mathematics that is not done here.
    """
    architecture, keys = described(gguf)
    if keys.whole("expert_count", 0):
        keys.refuse("expert_count", "a model without experts")
    metadata, tensors = gguf.metadata, gguf.tensors
    values: dict[str, Json] = {
        "model_type": architecture.model_type,
        "architectures": [architecture.model_class],
        "vocab_size": keys.whole("vocab_size") if "vocab_size" in keys else _rows(gguf),
        "tie_word_embeddings": "output.weight" not in tensors,
    }
    for name, key in _TOKENS.items():
        values[name] = metadata.whole(key) if key in metadata else None
    values |= {name: keys.whole(key) for key, name in architecture.integers.items()}
    values |= {name: keys.number(key) for key, name in architecture.numbers.items()}
    for more in architecture.more:
        values |= more(keys)
    return values


def described(gguf: Gguf) -> tuple[Architecture, Keys]:
    """Returns how a file is read, by the architecture that it names.

    Raises:
        CheckpointError: one that is not read.
    """
    name = gguf.metadata.text("general.architecture")
    if name not in ARCHITECTURES:
        raise fp.CheckpointError(
            f"{gguf.path}: GGUF of the architecture {quoted(name)}, which is not read; read are "
            f"{', '.join(ARCHITECTURES)}: load the repository that it was made of"
        )
    return ARCHITECTURES[name], Keys(gguf, name)


def _rows(gguf: Gguf) -> int:
    """Returns the number of rows of the embedding table."""
    table = gguf.tensors.get("token_embd.weight")
    if table is None or len(table.shape) != 2:
        raise fp.CheckpointError(f"{gguf.path}: no matrix 'token_embd.weight'")
    return table.shape[0]
