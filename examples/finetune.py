"""Fine-tunes a pretrained Llama to tell which module of the standard library a docstring is from.

    python examples/finetune.py [--steps 20] [--folder run]

A fine-tune is a loss, a mask and a loop (`_training.py`) whose state orbax keeps: params in
bfloat16 with float32 norms, embeddings that are not trained, batches spread over all devices. A run
that was cut off continues from the last step in the folder.
"""

from collections.abc import Sequence

import jax
import numpy as np
import optax
from _training import docstrings, ends, mesh_of, options, train

import flaxmodels as fm
from flaxmodels import params as fp

MODULES, LENGTH = ("asyncio", "logging"), 64
OPTIMIZER = optax.multi_transform(
    {True: optax.adamw(1e-3), False: optax.set_to_zero()},
    lambda params: fp.mask_except(params, "embed_tokens"),  # the embeddings keep their values
)


def loss(model, params, key: jax.Array, ids: jax.Array, labels: jax.Array) -> jax.Array:
    logits = model.apply({"params": params}, ids, ids != 0).logits
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def main(argv: Sequence[str] | None = None) -> float:
    """Trains up to `--steps` and returns the loss at last; NaN if all was done before."""
    parser = options(__doc__, steps=20, batch=16, mesh="fsdp", folder="run")
    args = parser.parse_args(argv)

    folder = fm.bundled_checkpoint()  # or any folder or repository
    model, params = fm.LlamaForSequenceClassification.from_pretrained(
        folder, mesh=mesh_of(args), scan_layers=True, num_labels=len(MODULES)
    )
    params = fp.to_fp32(params, lambda path, leaf: "norm" in path)

    found = docstrings(MODULES)
    ids = np.array([list(text.encode()[:LENGTH].ljust(LENGTH, b"\0")) for text, _ in found])
    labels = np.array([place for _, place in found])

    def draw(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        some = rng.integers(len(ids), size=args.batch)
        return ids[some], labels[some]

    _, losses = train(model, params, loss, OPTIMIZER, draw, args)
    return ends(losses)["last"] if losses else float("nan")


if __name__ == "__main__":
    main()
