"""Teaches a pretrained Llama which of two continuations is preferred, by DPO (Rafailov et al. 2023,
https://arxiv.org/abs/2305.18290).

    python examples/dpo.py [--folder run] [--steps 60] [--beta 0.1]

Made-up preferences: of two continuations of a docstring the true one is chosen, and that of another
docstring rejected. Rows come in pairs, chosen and rejected; the reference is the model as it was.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from _training import Mapped, bundled, measure, options, rows_of_bytes, say, train

import flaxmodels as fm
from flaxmodels import training

PROMPT, ANSWER, HELD_OUT, IGNORED = 32, 32, 128, -100


def log_probability(after: jax.Array, logits: jax.Array) -> jax.Array:
    """Returns the log-probability of each answer [B]: of the tokens `after` each, if not -100."""
    losses, counted = training.cross_entropy(logits, after)
    return -jnp.where(counted, losses, 0).sum(-1)


def shifted(labels: jax.Array) -> jax.Array:
    return jnp.pad(labels[:, 1:], ((0, 0), (0, 1)), constant_values=IGNORED)


def dpo(outputs, labels, beta: float) -> jax.Array:
    """Returns the loss of each pair [B / 2]: how little the model prefers the chosen answer more
    than the reference does."""
    gains = log_probability(shifted(labels["labels"]), outputs.logits) - labels["reference"]
    return -jax.nn.log_sigmoid(beta * (gains[0::2] - gains[1::2]))


def preferred(after: jax.Array, logits: jax.Array) -> jax.Array:
    """Tells of each pair whether the chosen answer is the more probable one [B / 2]."""
    found = log_probability(after, logits)
    return found[0::2] > found[1::2]


def pairs(rows: np.ndarray) -> dict[str, np.ndarray]:
    """Makes pairs [N, 2, T] of rows [N, T]: the second has the answer of the next row."""
    rejected = np.concatenate([rows[:, :PROMPT], np.roll(rows, -1, axis=0)[:, PROMPT:]], axis=1)
    ids = np.stack([rows, rejected], axis=1)
    return {"input_ids": ids, "labels": np.where(np.arange(ids.shape[2]) < PROMPT, IGNORED, ids)}


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    """Trains and measures: the share of pairs in which the true continuation is more probable."""
    parser = options(__doc__, steps=60)
    parser.add_argument("--beta", type=float, default=0.1, help="how near the reference it stays")
    args = parser.parse_args(argv)
    model, params, mesh = bundled(fm.LlamaForCausalLM, args)
    rows = rows_of_bytes(PROMPT + ANSWER)
    how = {"mesh": mesh, "seed": args.seed}

    @jax.jit
    def with_reference(batch, params):
        flat = {name: x.reshape(-1, x.shape[-1]) for name, x in batch.items()}
        logits = model.apply({"params": params}, flat["input_ids"]).logits
        return {**flat, "reference": log_probability(shifted(flat["labels"]), logits)}

    batches, others = (
        Mapped(made, functools.partial(with_reference, params=params))
        for made in (
            model.prepare_dataset(pairs(rows[HELD_OUT:]), args.batch, **how),
            model.prepare_dataset(pairs(rows[:HELD_OUT]), HELD_OUT, False, **how),
        )
    )
    steps = training.compile(
        model,
        loss=functools.partial(dpo, beta=args.beta),
        metrics=preferred,
        learning_rate=1e-4,
        clip_norm=1.0,
        mesh=mesh,
    )
    before = measure(steps, steps.init(params), others)
    result = measure(steps, train(steps, params, batches, args), others)
    say(
        f"held out: the true continuation is preferred in {result['preferred']:.1%} of pairs, "
        f"{before['preferred']:.1%} before; loss {result['loss']:.3f}, {before['loss']:.3f} before"
    )
    return {**result, "baseline": before["preferred"]}


if __name__ == "__main__":
    main()
