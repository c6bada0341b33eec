"""Trains a small BERT to tell which module of the standard library a docstring is from.

    python examples/classify.py [--steps 300] [--dtype bfloat16] [--mesh fsdp] [--folder run]

From scratch; `finetune.py` starts from a pretrained Llama.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from _training import (
    MODULES,
    PAD,
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
OPTIMIZER = optax.adamw(2e-3)


def loss(model, params, key: jax.Array, ids: jax.Array, labels: jax.Array) -> jax.Array:
    rngs = {"dropout": key}
    out = model.apply({"params": params}, ids, ids != PAD, deterministic=False, rngs=rngs)
    return cross_entropy(out.logits, labels)


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    """Trains and measures: the loss at first and at last, and the accuracy on what is held out."""
    args = options(__doc__).parse_args(argv)
    found = docstrings()
    vocabulary = Vocabulary.of((text for text, _ in found), args.words)
    ids = vocabulary.ids([text for text, _ in found], LENGTH)
    labels = np.array([place for _, place in found])
    order = np.random.default_rng(0).permutation(len(ids))
    held_out, trained = order[:192], order[192:]
    config = fm.BertConfig(
        vocab_size=len(vocabulary.words),
        hidden_size=args.width,
        intermediate_size=2 * args.width,
        num_hidden_layers=args.layers,
        num_attention_heads=4,
        max_position_embeddings=LENGTH,
        pad_token_id=PAD,
        num_labels=len(MODULES),
    )
    model = fm.BertForSequenceClassification(config, dtype=jnp.dtype(args.dtype), scan_layers=True)
    params = model.init_params(jax.random.key(args.seed), mesh_of(args))

    def draw(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        some = trained[rng.integers(len(trained), size=args.batch)]
        return ids[some], labels[some]

    params, losses = train(model, params, loss, OPTIMIZER, draw, args)
    logits = jax.jit(model.apply)({"params": params}, ids[held_out], ids[held_out] != PAD).logits
    accuracy = float((np.asarray(logits).argmax(-1) == labels[held_out]).mean())
    usual = np.bincount(labels[held_out]).max() / len(held_out)
    print(f"held out: {accuracy:.1%} right; {usual:.1%} are from the commonest module")
    return {**ends(losses), "accuracy": accuracy}


if __name__ == "__main__":
    main()
