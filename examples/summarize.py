"""Trains a small BART to write the first line of a docstring from the rest of it.

    python examples/summarize.py [--steps 300] [--dtype bfloat16] [--mesh fsdp] [--folder run]

Teacher forcing: the decoder reads the line shifted by one, and the loss is that of the words that
it is to say next. Then lines are generated for what was held out, and compared with the true ones
by the F1 of their words (ROUGE-1, Lin 2004, https://aclanthology.org/W04-1013).
"""

import collections
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from _training import (
    BOS,
    EOS,
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

BODY, LINE = 64, 16
"""Tokens that are read, and written."""
OPTIMIZER = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3))


def loss(model, params, key: jax.Array, ids: jax.Array, line: jax.Array) -> jax.Array:
    out = model.apply(
        {"params": params},
        ids,
        ids != PAD,
        model.prepare_decoder_input_ids_from_labels(line),
        deterministic=False,
        rngs={"dropout": key},
    )
    return cross_entropy(out.logits, jnp.where(line == PAD, -1, line))


def overlap(found: str, expected: str) -> float:
    """Returns the F1 of the words of two texts."""
    a, b = (collections.Counter(text.split()) for text in (found, expected))
    return 2 * (a & b).total() / max(1, a.total() + b.total())


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    """Trains and measures: the loss at first and at last, and the overlap on what is held out."""
    args = options(__doc__).parse_args(argv)
    pairs = [text.split("\n\n", 1) for text, _ in docstrings() if "\n\n" in text]
    vocabulary = Vocabulary.of((part for pair in pairs for part in pair), args.words)
    lines = vocabulary.ids([line for line, _ in pairs], LINE)
    bodies = vocabulary.ids([body for _, body in pairs], BODY)
    order = np.random.default_rng(0).permutation(len(pairs))
    held_out, trained = order[:32], order[32:]
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
    params = model.init_params(jax.random.key(args.seed), mesh_of(args))

    def draw(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        some = trained[rng.integers(len(trained), size=args.batch)]
        return bodies[some], lines[some]

    params, losses = train(model, params, loss, OPTIMIZER, draw, args)
    ids = bodies[held_out]
    written = model.generate(params, ids, attention_mask=ids != PAD, max_new_tokens=LINE - 1)
    found = [vocabulary.text(row) for row in np.asarray(written.sequences)]
    expected = [vocabulary.text(row) for row in lines[held_out]]
    score = float(np.mean([overlap(*pair) for pair in zip(found, expected, strict=True)]))
    print(f"held out: F1 of words {score:.3f}")
    print(f"as in {found[0]!r}\n  for {expected[0]!r}")
    return {**ends(losses), "overlap": score}


if __name__ == "__main__":
    main()
