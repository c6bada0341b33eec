"""Builders of GGUF files, byte by byte."""

import struct
from collections.abc import Sequence

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
_CODES = dict(enumerate("<B <b <H <h <I <i <f <?".split())) | {U64: "<Q", I64: "<q", F64: "<d"}


def string(text: str | bytes, length: int | None = None) -> bytes:
    """A string, true or lying about its length."""
    raw = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(raw) if length is None else length) + raw


def value(kind: int, x) -> bytes:
    return string(x) if kind == STRING else struct.pack(_CODES[kind], x)


def pair(key: str | bytes, kind: int, x) -> bytes:
    """A key and a value; bytes are the value's own."""
    raw = x if isinstance(x, bytes) and kind != STRING else value(kind, x)
    return string(key) + struct.pack("<I", kind) + raw


def array(kind: int, values: Sequence, count: int | None = None) -> bytes:
    """The value of an array, true or lying about its length."""
    head = struct.pack("<IQ", kind, len(values) if count is None else count)
    return head + b"".join(value(kind, x) for x in values)


def info(name: str | bytes, shape=(2, 2), kind: int = 0, offset: int = 0) -> bytes:
    """What a header says of a tensor, `shape` as NumPy has it."""
    sizes = struct.pack(f"<I{len(shape)}Q", len(shape), *shape[::-1])
    return string(name) + sizes + struct.pack("<IQ", kind, offset)


def gguf(
    pairs: Sequence[bytes] = (),
    infos: Sequence[bytes] = (),
    data: bytes = b"",
    *,
    version: int = 3,
    counts: tuple[int, int] | None = None,
    alignment: int = 32,
    magic: bytes = b"GGUF",
) -> bytes:
    """A file, true or lying about its counts of tensors and of pairs."""
    tensors, keys = counts or (len(infos), len(pairs))
    head = magic + struct.pack("<IQQ", version, tensors, keys) + b"".join((*pairs, *infos))
    return head + bytes(-len(head) % alignment) + data


def tokens(*names: str) -> bytes:
    return pair("tokenizer.ggml.tokens", ARRAY, array(STRING, names))


LLAMA = {
    "llama.context_length": (U32, 16),
    "llama.block_count": (U32, 1),
    "llama.embedding_length": (U32, 4),
    "llama.feed_forward_length": (U32, 6),
    "llama.attention.head_count": (U32, 2),
    "llama.attention.head_count_kv": (U32, 1),
    "llama.attention.layer_norm_rms_epsilon": (F32, 0.5),
}
"""The metadata of a Llama of one layer."""
SHAPES = {
    "token_embd.weight": (5, 4),
    "output_norm.weight": (4,),
    "blk.0.attn_norm.weight": (4,),
    "blk.0.attn_q.weight": (4, 4),
    "blk.0.attn_k.weight": (2, 4),
    "blk.0.attn_v.weight": (2, 4),
    "blk.0.attn_output.weight": (4, 4),
    "blk.0.ffn_norm.weight": (4,),
    "blk.0.ffn_gate.weight": (6, 4),
    "blk.0.ffn_up.weight": (6, 4),
    "blk.0.ffn_down.weight": (4, 6),
}


def llama(keys: dict | None = None, shapes: dict | None = None, name: str = "llama") -> bytes:
    """A whole model, in float32, its data zeros.

    Args:
        keys: {key: (kind, value)} that it has too, or instead; None takes a key away.
        shapes: {tensor: shape}, as `keys`.
        name: of the architecture, which does not change the keys.
    """
    table = {"general.architecture": (STRING, name)} | LLAMA | (keys or {})
    pairs = [pair(key, *row) for key, row in table.items() if row is not None]
    infos, position = [], 0
    for tensor, shape in (SHAPES | (shapes or {})).items():
        if shape is not None:
            infos.append(info(tensor, shape, 0, position))
            size = 4
            for n in shape:
                size *= n
            position += size + -size % 32
    return gguf(pairs, infos, bytes(position))
