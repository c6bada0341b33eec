"""Trains a small RoBERTa to guess the words of docstrings that are hidden from it.

    python examples/masked_lm.py [--folder run] [--steps 300] [--mesh fsdp] [--dtype bfloat16]

Of the words 15% are to be guessed: 80% of these are seen as <mask>, 10% as another word and 10% as
they are (Devlin et al. 2019, https://arxiv.org/abs/1810.04805), which `prepare_dataset` does.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from _training import BOS, EOS, PAD, Vocabulary, docstrings, measure, mesh_of, options, say, train

import flaxmodels as fm
from flaxmodels import training

LENGTH = 48


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    """Trains and measures: the loss and the share of hidden words that are guessed, and the share
    of the commonest word."""
    args = options(__doc__, sizes=True).parse_args(argv)
    mesh = mesh_of(args)
    texts = [text for text, _ in docstrings()]
    texts = [texts[i] for i in np.random.default_rng(0).permutation(len(texts))]
    held_out, trained = texts[:128], texts[128:]
    vocabulary = Vocabulary.of(trained, args.words)

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
    how = {"tokenizer": vocabulary, "lengths": (LENGTH,), "mesh": mesh}
    batches = model.prepare_dataset(trained, args.batch, seed=args.seed, **how)
    others = model.prepare_dataset(held_out, 64, shuffle=False, **how)

    steps = training.compile(
        model,
        learning_rate=1e-3,
        weight_decay=1e-4,
        clip_norm=1.0,
        metrics="accuracy",
        mesh=mesh,
        seed=args.seed,
    )
    result = measure(steps, train(steps, jax.random.key(args.seed), batches, args), others)
    words = [word for ids in vocabulary(held_out) for word in ids[1:-1][: LENGTH - 2]]
    usual = np.bincount(words).max() / len(words)
    say(
        f"held out: {result['accuracy']:.1%} of hidden words guessed; {usual:.1%} are the commonest"
    )
    return {**result, "baseline": usual}


if __name__ == "__main__":
    main()
