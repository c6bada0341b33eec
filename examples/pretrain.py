"""Trains a small Llama from scratch to say the docstrings of the standard library, word by word.

    python examples/pretrain.py [--folder run] [--steps 200] [--mesh fsdp] [--dtype bfloat16]

Docstrings of any length are packed into rows of 128 tokens, in which they do not see each other.
What is held out is compared with how often each word is in what is trained on (a unigram model).
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from _training import BOS, EOS, PAD, Vocabulary, docstrings, measure, mesh_of, options, say, train

import flaxmodels as fm
from flaxmodels import training

LENGTH = 128


def unigram_loss(trained: Sequence[Sequence[int]], held_out: Sequence[Sequence[int]]) -> float:
    """Returns the mean loss of tokens by their frequency in what is trained on, one added to each;
    the first of each text is given."""
    seen = np.concatenate([row[1:] for row in trained])
    counts = 1 + np.bincount(seen, minlength=max(max(row) for row in [*trained, *held_out]) + 1)
    asked = np.concatenate([row[1:] for row in held_out])
    return float(-np.log(counts / counts.sum())[asked].mean())


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    """Trains and measures: the loss of a token that is held out, and of the unigram model."""
    args = options(__doc__, sizes=True, steps=200, batch=16).parse_args(argv)
    mesh = mesh_of(args)
    texts = [text for text, _ in docstrings()]
    texts = [texts[i] for i in np.random.default_rng(0).permutation(len(texts))]
    held_out, trained = texts[:128], texts[128:]
    vocabulary = Vocabulary.of(trained, args.words)

    config = fm.LlamaConfig(
        vocab_size=len(vocabulary.words),
        hidden_size=args.width,
        intermediate_size=3 * args.width,
        num_hidden_layers=args.layers,
        num_attention_heads=4,
        max_position_embeddings=LENGTH,
        bos_token_id=BOS,
        pad_token_id=PAD,
        eos_token_id=EOS,
    )
    model = fm.LlamaForCausalLM(config, dtype=jnp.dtype(args.dtype), scan_layers=True)
    how = {"tokenizer": vocabulary, "pack": True, "max_length": LENGTH, "mesh": mesh}
    batches = model.prepare_dataset(trained, args.batch, seed=args.seed, **how)
    others = model.prepare_dataset(held_out, args.batch, shuffle=False, **how)

    rate = {"name": "cosine", "peak": 3e-3, "warmup": min(20, args.steps // 2), "steps": args.steps}
    steps = training.compile(model, "adamw", learning_rate=rate, clip_norm=1.0, mesh=mesh)
    state = train(steps, jax.random.key(args.seed), batches, args, others)

    loss = measure(steps, state, others)["loss"]
    unigram = unigram_loss(
        *(vocabulary([t[:LENGTH] for t in some]) for some in (trained, held_out))
    )
    say(f"held out: loss {loss:.3f}, perplexity {np.exp(loss):.1f}; of unigrams {unigram:.3f}")
    return {"loss": loss, "baseline": unigram}


if __name__ == "__main__":
    main()
