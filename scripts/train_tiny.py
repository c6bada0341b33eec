"""Trains the bundled checkpoint: a byte-level Llama on the text that every Python carries.

    python scripts/train_tiny.py [--steps 3000] [--seed 0] [--folder flaxmodels/checkpoints]

Takes ten minutes or so on two cores. Writes `tiny-llama` (safetensors) and `tiny-llama-msgpack`
in bf16, the figures of held-out text, and a README. Fails, writing nothing, if the model does not
beat a trigram model of the same training text.
"""

import argparse
import json
import platform
import sys
import time
from pathlib import Path
from typing import Any

import _text
import jax
import jax.numpy as jnp
import numpy as np
import optax

import flaxmodels as fm
from flaxmodels import params as fp

BATCH = 8
CONFIG: dict[str, Any] = {
    "vocab_size": 256,
    "hidden_size": 160,
    "intermediate_size": 432,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": 0,  # no text has this byte
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Trains the bundled checkpoint.")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    default = Path(__file__).parents[1] / "flaxmodels" / "bundled"
    parser.add_argument("--folder", type=Path, default=default)
    args = parser.parse_args()

    start = time.perf_counter()
    text = _text.training()
    model = fm.LlamaForCausalLM(fm.LlamaConfig(**CONFIG))
    params = model.init_params(jax.random.key(args.seed))
    print(f"{fp.num_parameters(params):,} parameters, {len(text):,} bytes to train on", flush=True)
    params = fp.to_bf16(train(model, params, text, steps=args.steps, seed=args.seed))

    figures = evaluate(model, params, text) | {
        "parameters": fp.num_parameters(params),
        "training_bytes": len(text),
        "steps": args.steps,
        "seed": args.seed,
        "python": platform.python_version(),
        "minutes": round((time.perf_counter() - start) / 60, 1),
    }
    print(json.dumps(figures, indent=2))
    if figures["held_out"]["model"] >= figures["held_out"]["trigram"]:
        sys.exit("train_tiny: the model does not beat the trigram; nothing was written")
    save(model, params, args.folder, figures)


def train(model: Any, params: Any, text: np.ndarray, *, steps: int, seed: int) -> Any:
    """`params` after `steps` of AdamW on windows drawn at random from `text`."""
    optimizer = make_optimizer(params, steps)
    state = optimizer.init(params)

    def loss_of(params: Any, ids: jax.Array) -> jax.Array:
        logits = model.apply({"params": params}, ids[:, :-1]).logits
        return optax.softmax_cross_entropy_with_integer_labels(logits, ids[:, 1:]).mean()

    def step(params: Any, state: Any, ids: jax.Array) -> tuple[Any, Any, jax.Array]:
        loss, grads = jax.value_and_grad(loss_of)(params, ids)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state, loss

    step = jax.jit(step, donate_argnums=(0, 1))
    rng, losses, start = np.random.default_rng(seed), [], time.perf_counter()
    for i in range(1, steps + 1):
        params, state, loss = step(params, state, draw(text, rng))
        losses.append(loss)
        if i % 100 == 0 or i == steps:
            bits = float(jnp.stack(losses).mean() / jnp.log(2))
            seconds = (time.perf_counter() - start) / i
            print(f"step {i:5d}  {bits:.3f} bits per byte  {seconds:.3f} s a step", flush=True)
            losses = []
    return params


def make_optimizer(params: Any, steps: int) -> optax.GradientTransformation:
    """AdamW under a warm-up and a cosine; only kernels decay."""
    rate = optax.warmup_cosine_decay_schedule(0.0, 3e-3, min(100, steps // 2), steps, 1e-5)
    decayed = fp.as_mask(lambda path, leaf: path.endswith("/kernel"), params)
    count, total = fp.num_parameters(params, decayed), fp.num_parameters(params)
    print(f"weight decay on {count:,} of {total:,} parameters")
    adamw = optax.adamw(rate, b2=0.98, weight_decay=0.1, mask=decayed)
    return optax.chain(optax.clip_by_global_norm(1.0), adamw)


def draw(text: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Windows of bytes, int32 [BATCH, WINDOW + 1]."""
    starts = rng.integers(0, len(text) - _text.WINDOW, BATCH)
    return text[starts[:, None] + np.arange(_text.WINDOW + 1)].astype(np.int32)


def evaluate(model: Any, params: Any, text: np.ndarray) -> dict[str, dict[str, float]]:
    """Bits per byte of the model and of n-gram models fitted to `text`, all and sample."""
    figures = {}
    for name, held in (("held_out", _text.held_out()), ("sample", _text.held_out(_text.SAMPLE))):
        unigram, trigram = ngrams(text, held)
        bits = {
            "model": _text.bits_per_byte(model, params, held),
            "trigram": trigram,
            "unigram": unigram,
        }
        figures[name] = {key: round(value, 3) for key, value in bits.items()}
        figures[name]["bytes"] = len(held)
    return figures


def ngrams(text: np.ndarray, held: np.ndarray) -> tuple[float, float]:
    """Bits per byte of `held` under a unigram and a trigram model of `text`.

    Witten and Bell 1991: an order trusts its counts n against the distinct successors t of the
    context, (n(c) + t p(c)) / (n + t), where p is the order below.
    """
    held = np.concatenate([np.frombuffer(b"\n\n", np.uint8), held]).astype(int)
    text = text.astype(int)
    ids = held[2:]
    p = (np.bincount(text, minlength=256)[ids] + 1) / (len(text) + 256)
    bits = [-np.log2(p).mean()]
    context, key = np.zeros(len(text), int), np.zeros(len(held), int)
    for order in (1, 2):
        context[order:] = context[order:] + (text[:-order] << 8 * (order - 1))
        key[order:] = key[order:] + (held[:-order] << 8 * (order - 1))
        counts = np.bincount(context[2:] << 8 | text[2:], minlength=256 ** (order + 1))
        counts = counts.reshape(-1, 256)
        n, t = counts.sum(axis=1)[key[2:]], (counts > 0).sum(axis=1)[key[2:]]
        p = np.where(n, (counts[key[2:], ids] + t * p) / np.maximum(n + t, 1), p)
        bits.append(-np.log2(p).mean())
    return float(bits[0]), float(bits[2])


def save(model: Any, params: Any, folder: Path, figures: dict[str, Any]) -> None:
    """Writes both formats in about four shards each, the figures, and the READMEs."""
    safe, msgpack = folder / "tiny-llama", folder / "tiny-llama-msgpack"
    model.save_pretrained(params, safe, max_shard_size="700KB")
    model.save_pretrained(params, msgpack, max_shard_size="700KB", safe_serialization=False)
    for folder in (safe, msgpack):
        _text.write_tokenizer(folder)
    (safe / "training.json").write_text(json.dumps(figures, indent=2) + "\n")
    (safe / "README.md").write_text(README.format(**figures))
    (msgpack / "README.md").write_text(
        "The params of `../tiny-llama`, bit for bit, as flax msgpack: see its README.\n"
    )
    size = sum(path.stat().st_size for path in [*safe.iterdir(), *msgpack.iterdir()])
    print(f"wrote {safe} and {msgpack}, {size:,} bytes")


README = """\
---
license: apache-2.0
language: en
library_name: flaxmodels
pipeline_tag: text-generation
---

# tiny-llama

A Llama of {parameters:,} parameters in bf16, small enough to travel with the library: for its demo
and its tests, not for use. Made by `scripts/train_tiny.py` ({steps} steps, seed {seed}, Python
{python}).

A token is a byte of UTF-8: ids are `list(text.encode())`. There is no token for the beginning or
the end of a text; byte 0 pads. It was trained on windows of 128 bytes.

| bits per byte | held out | sample |
|---|---|---|
| this model | {held_out[model]} | {sample[model]} |
| trigram | {held_out[trigram]} | {sample[trigram]} |
| unigram | {held_out[unigram]} | {sample[unigram]} |
| bytes | {held_out[bytes]:,} | {sample[bytes]:,} |

Held out is an eighth of pydoc's topics, by a hash of their names; the sample is the first 768 bytes
of each. The n-gram models (Witten-Bell) are fitted to the same {training_bytes:,} bytes as the
model: the other topics twice, and the standard library's docstrings, without any paragraph of the
held-out topics. `scripts/_text.py` has the rule.

The text is CPython's documentation, (c) Python Software Foundation, under the PSF License
Agreement; the weights are under Apache-2.0.
"""


if __name__ == "__main__":
    main()
