"""Fine-tunes a pretrained Llama to tell which module of the standard library a docstring is from.

    python examples/finetune.py [--steps 20] [--folder run]

A fine-tune is a loss, a mask and a loop whose state orbax keeps: params in bfloat16 with float32
norms, embeddings that are not trained, batches spread over all devices. A run that was cut off
continues from the last step in the folder.
"""

import argparse
import asyncio
import inspect
import logging
import os
from collections.abc import Sequence

import jax
import numpy as np
import optax
import orbax.checkpoint as ocp
from jax.sharding import NamedSharding, PartitionSpec

import flaxmodels as fm
from flaxmodels import params as fp
from flaxmodels import sharding as fs

MODULES = (asyncio, logging)
BATCH, LENGTH, SAVE_EVERY = 16, 64, 10


def docstrings() -> tuple[np.ndarray, np.ndarray]:
    """Returns bytes of docstrings, int64 [N, LENGTH] padded with 0, and places in `MODULES` [N]."""
    values = [(x, i) for i, module in enumerate(MODULES) for x in vars(module).values()]
    rows = [(text.encode()[:LENGTH], i) for x, i in values if (text := inspect.getdoc(x))]
    ids = np.array([list(text.ljust(LENGTH, b"\0")) for text, _ in rows])
    return ids, np.array([i for _, i in rows])


def main(argv: Sequence[str] | None = None) -> float:
    """Trains up to `--steps` and returns the last loss."""
    parser = argparse.ArgumentParser(description="Fine-tunes the bundled checkpoint.")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--folder", default="run", help="where the state is kept")
    args = parser.parse_args(argv)

    mesh = fs.make_mesh(fsdp=-1)  # -1: all devices
    folder = fm.bundled_checkpoint()  # or any folder or repository
    causal, pretrained = fm.AutoModelForCausalLM.from_pretrained(folder, mesh=mesh)
    model = fm.LlamaForSequenceClassification(causal.config)
    params = model.init_params(jax.random.key(0), mesh) | {"model": pretrained["model"]}
    params = fp.to_bf16(params, fp.mask_except(params, "norm"))

    trained = fp.mask_except(params, "embed_tokens")  # the embeddings keep their values
    optimizer = optax.multi_transform(
        {True: optax.adamw(1e-3), False: optax.set_to_zero()}, trained
    )
    everywhere = NamedSharding(mesh, PartitionSpec())
    spread = NamedSharding(mesh, PartitionSpec("fsdp"))
    state = optimizer.init(fp.to_fp32(params))  # moments in float32, placed like their params
    state = jax.tree.map(lambda x: x if x.ndim else jax.device_put(x, everywhere), state)

    def loss(params, ids, labels):
        logits = model.apply({"params": params}, ids, ids != 0).logits
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    @jax.jit
    def step(params, state, ids, labels):
        value, grads = jax.value_and_grad(loss)(params, ids, labels)
        updates, state = optimizer.update(fp.to_fp32(grads), state, params)
        return optax.apply_updates(params, updates), state, value

    ids, labels = docstrings()
    value = np.nan
    options = ocp.CheckpointManagerOptions(save_interval_steps=SAVE_EVERY)
    with ocp.CheckpointManager(os.path.abspath(args.folder), options=options) as manager:
        done = manager.latest_step() or 0  # continues where the last run was cut off
        if done:
            params, state = manager.restore(done, args=ocp.args.StandardRestore((params, state)))
        for i in range(done, args.steps):
            some = np.random.default_rng(i).integers(len(ids), size=BATCH)
            batch = jax.device_put((ids[some], labels[some]), spread)
            params, state, value = step(params, state, *batch)
            if manager.save(i + 1, args=ocp.args.StandardSave((params, state))):
                print(f"step {i + 1}: loss {value:.2f}")
    return float(value)


if __name__ == "__main__":
    main()
