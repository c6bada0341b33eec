"""Trains a small BART to write the first line of a docstring from the rest of it.

    python examples/summarize.py [--folder run] [--steps 150] [--mesh fsdp] [--dtype bfloat16]

The decoder reads the line shifted by one, and the loss is that of the words that it is to say next.
Then lines are generated for what was held out, and compared with the true ones by the F1 of their
words (ROUGE-1, Lin 2004, https://aclanthology.org/W04-1013); the baseline is the first words of the
rest.
"""

import collections
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from _training import BOS, EOS, PAD, Vocabulary, docstrings, measure, mesh_of, options, say, train
from jax.experimental import multihost_utils

import flaxmodels as fm
from flaxmodels import training

BODY, LINE, HELD_OUT = 64, 16, 32
"""Tokens that are read, and written, and texts that are held out."""


def overlap(found: str, expected: str) -> float:
    """Returns the F1 of the words of two texts."""
    a, b = (collections.Counter(text.split()) for text in (found, expected))
    return 2 * (a & b).total() / max(1, a.total() + b.total())


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    """Trains and measures: the loss, and the overlap of lines with those that are held out."""
    args = options(__doc__, sizes=True, steps=150).parse_args(argv)
    mesh = mesh_of(args)
    pairs = [text.split("\n\n", 1) for text, _ in docstrings() if "\n\n" in text]
    pairs = [pairs[i] for i in np.random.default_rng(0).permutation(len(pairs))]
    vocabulary = Vocabulary.of((part for pair in pairs[HELD_OUT:] for part in pair), args.words)
    bodies = [ids[:BODY] for ids in vocabulary([body for _, body in pairs])]
    lines = [ids[:LINE] for ids in vocabulary([line for line, _ in pairs])]
    rows = [{"input_ids": x, "labels": y} for x, y in zip(bodies, lines, strict=True)]

    config = fm.BartConfig(
        vocab_size=len(vocabulary.words),
        d_model=args.width,
        encoder_layers=args.layers,
        decoder_layers=args.layers,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=2 * args.width,
        decoder_ffn_dim=2 * args.width,
        max_position_embeddings=BODY,
        bos_token_id=BOS,
        pad_token_id=PAD,
        eos_token_id=EOS,
        decoder_start_token_id=EOS,
        forced_eos_token_id=None,
    )
    model = fm.BartForConditionalGeneration(config, dtype=jnp.dtype(args.dtype), scan_layers=True)
    how = {"lengths": (BODY,), "mesh": mesh, "tokenizer": vocabulary}
    batches = model.prepare_dataset(rows[HELD_OUT:], args.batch, seed=args.seed, **how)
    others = model.prepare_dataset(rows[:HELD_OUT], HELD_OUT, shuffle=False, **how)

    steps = training.compile(
        model, learning_rate=1e-3, weight_decay=1e-4, clip_norm=1.0, mesh=mesh, seed=args.seed
    )
    state = train(steps, jax.random.key(args.seed), batches, args)
    result = measure(steps, state, others)
    (batch,) = others
    how = {"attention_mask": batch["attention_mask"], "max_new_tokens": LINE - 1}
    written = model.generate(state.params, batch["input_ids"], **how)
    sequences = multihost_utils.process_allgather(written.sequences, tiled=True)
    found = [vocabulary.text(row) for row in sequences]
    expected = [vocabulary.text(row) for row in lines[:HELD_OUT]]
    first = [vocabulary.text(row[: LINE - 1]) for row in bodies[:HELD_OUT]]
    score, usual = (
        float(np.mean([overlap(*pair) for pair in zip(some, expected, strict=True)]))
        for some in (found, first)
    )
    say(f"held out: F1 of words {score:.3f}; {usual:.3f} of the first words of the rest")
    say(f"as in {found[0]!r}\n  for {expected[0]!r}")
    return {**result, "overlap": score, "baseline": usual}


if __name__ == "__main__":
    main()
