"""Trains a small RoBERTa to guess the words of docstrings that are hidden from it.

    python examples/masked_lm.py [--steps 300] [--dtype bfloat16] [--mesh fsdp] [--folder run]

Of the words 15% are to be guessed: 80% of these are seen as <mask>, 10% as another word and 10% as
they are (Devlin et al. 2019, https://arxiv.org/abs/1810.04805). Every run of a seed hides the same.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from _training import (
    BOS,
    EOS,
    MASK,
    PAD,
    SPECIAL,
    Vocabulary,
    cross_entropy,
    docstrings,
    ends,
    mesh_of,
    options,
    train,
)

import flaxmodels as fm

LENGTH = 48
OPTIMIZER = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3))


def hidden(
    ids: np.ndarray, rng: np.random.Generator, vocab_size: int, share: float = 0.15
) -> tuple[np.ndarray, np.ndarray]:
    """Hides words of ids [B, T] -> (what the model sees, what it is to guess: -1 elsewhere)."""
    chosen = (rng.random(ids.shape) < share) & (ids >= len(SPECIAL))
    how = rng.random(ids.shape)
    others = rng.integers(len(SPECIAL), vocab_size, ids.shape)
    seen = np.where(how < 0.8, MASK, np.where(how < 0.9, others, ids))
    return np.where(chosen, seen, ids).astype(np.int32), np.where(chosen, ids, -1)


def loss(model, params, key: jax.Array, ids: jax.Array, targets: jax.Array) -> jax.Array:
    rngs = {"dropout": key}
    out = model.apply({"params": params}, ids, ids != PAD, deterministic=False, rngs=rngs)
    return cross_entropy(out.logits, targets)


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    """Trains and measures: the loss at first and at last, and the share of hidden words guessed."""
    args = options(__doc__).parse_args(argv)
    texts = [text for text, _ in docstrings()]
    vocabulary = Vocabulary.of(texts, args.words)
    ids = np.random.default_rng(0).permutation(vocabulary.ids(texts, LENGTH))
    held_out, ids = ids[:128], ids[128:]
    config = fm.RobertaConfig(
        vocab_size=len(vocabulary.words),
        hidden_size=args.width,
        intermediate_size=2 * args.width,
        num_hidden_layers=args.layers,
        num_attention_heads=4,
        max_position_embeddings=LENGTH + PAD + 1,  # RoBERTa counts from behind the padding's id
        type_vocab_size=1,
        bos_token_id=BOS,
        pad_token_id=PAD,
        eos_token_id=EOS,
    )
    model = fm.RobertaForMaskedLM(config, dtype=jnp.dtype(args.dtype), scan_layers=True)
    params = model.init_params(jax.random.key(args.seed), mesh_of(args))

    def draw(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        return hidden(ids[rng.integers(len(ids), size=args.batch)], rng, config.vocab_size)

    params, losses = train(model, params, loss, OPTIMIZER, draw, args)
    seen, targets = hidden(held_out, np.random.default_rng(1), config.vocab_size)
    guessed = jax.jit(model.apply)({"params": params}, seen, seen != PAD).logits.argmax(-1)
    accuracy = float((np.asarray(guessed) == targets)[targets >= 0].mean())
    print(f"held out: {accuracy:.1%} of {np.sum(targets >= 0)} hidden words guessed")
    return {**ends(losses), "accuracy": accuracy}


if __name__ == "__main__":
    main()
