"""Fine-tunes a pretrained Llama to tell which module of the standard library a docstring is from.

    python examples/finetune.py [--folder run] [--steps 60] [--mesh data]

The embeddings keep their values; the rest is trained in float32, whatever was loaded, cut over all
devices.
"""

from collections.abc import Sequence

import numpy as np
from _training import bundled, docstrings, measure, options, say, train

import flaxmodels as fm
from flaxmodels import training

MODULES, LENGTH, HELD_OUT = ("asyncio", "logging"), 128, 64


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    """Trains and measures: the loss and the accuracy on what is held out, and the share of the
    commonest module."""
    args = options(__doc__, steps=60, mesh="fsdp").parse_args(argv)
    model, params, mesh = bundled(
        fm.LlamaForSequenceClassification, args, num_labels=len(MODULES), pad_token_id=0
    )

    found = docstrings(MODULES)
    order = np.random.default_rng(0).permutation(len(found))
    ids = np.array([list(text.encode()[:LENGTH].ljust(LENGTH, b"\0")) for text, _ in found])
    table = {
        "input_ids": ids[order],
        "attention_mask": (ids != 0)[order],
        "labels": np.array([place for _, place in found])[order],
    }
    held_out = {name: column[:HELD_OUT] for name, column in table.items()}
    trained = {name: column[HELD_OUT:] for name, column in table.items()}
    batches = model.prepare_dataset(trained, args.batch, seed=args.seed, mesh=mesh)
    others = model.prepare_dataset(held_out, HELD_OUT, shuffle=False, mesh=mesh)

    steps = training.compile(
        model,
        learning_rate=3e-4,
        trainable=lambda path, _: "embed_tokens" not in path,
        metrics="accuracy",
        mesh=mesh,
    )
    result = measure(steps, train(steps, params, batches, args), others)
    usual = np.bincount(held_out["labels"]).max() / HELD_OUT
    say(f"held out: {result['accuracy']:.1%} right; {usual:.1%} are of the commonest module")
    return {**result, "baseline": usual}


if __name__ == "__main__":
    main()
