"""Trains a small BERT to tell which module of the standard library a docstring is from.

    python examples/classify.py [--folder run] [--steps 150] [--mesh fsdp] [--dtype bfloat16]

From scratch, on rows of two lengths; `finetune.py` starts from a pretrained Llama.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from _training import (
    MODULES,
    PAD,
    Vocabulary,
    docstrings,
    measure,
    mesh_of,
    options,
    say,
    train,
)

import flaxmodels as fm
from flaxmodels import training

LENGTHS, HELD_OUT = (24, 48), 192


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    """Trains and measures: the loss and the accuracy on what is held out, and the share of the
    commonest module."""
    args = options(__doc__, sizes=True, steps=150).parse_args(argv)
    mesh = mesh_of(args)
    rows = [{"text": text, "label": place} for text, place in docstrings()]
    rows = [rows[i] for i in np.random.default_rng(0).permutation(len(rows))]
    held_out, trained = rows[:HELD_OUT], rows[HELD_OUT:]
    vocabulary = Vocabulary.of([row["text"] for row in trained], args.words)

    config = fm.BertConfig(
        vocab_size=len(vocabulary.words),
        hidden_size=args.width,
        intermediate_size=2 * args.width,
        num_hidden_layers=args.layers,
        num_attention_heads=4,
        max_position_embeddings=LENGTHS[-1],
        pad_token_id=PAD,
        num_labels=len(MODULES),
    )
    model = fm.BertForSequenceClassification(config, dtype=jnp.dtype(args.dtype), scan_layers=True)
    how = {"tokenizer": vocabulary, "lengths": LENGTHS, "mesh": mesh}
    batches = model.prepare_dataset(trained, args.batch, seed=args.seed, **how)
    others = model.prepare_dataset(held_out, 64, shuffle=False, **how)

    steps = training.compile(
        model,
        learning_rate=2e-3,
        weight_decay=1e-4,
        metrics="accuracy",
        mesh=mesh,
        seed=args.seed,
    )
    result = measure(steps, train(steps, jax.random.key(args.seed), batches, args), others)
    usual = np.bincount([row["label"] for row in held_out]).max() / HELD_OUT
    say(f"held out: {result['accuracy']:.1%} right; {usual:.1%} are of the commonest module")
    return {**result, "baseline": usual}


if __name__ == "__main__":
    main()
