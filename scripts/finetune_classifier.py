"""Fine-tunes a small BERT to tell which package of the standard library a docstring comes from.

    python scripts/finetune_classifier.py [--steps 800] [--seeds 3] [--folder FOLDER]

There are some 1,000 labelled passages to learn from. The embeddings are word vectors made from the
library's code, and stay as they are. With `--folder` the state goes there every 100 steps, and a
run that was cut off goes on from it. Fails if a linear model of the same passages does as well.
"""

import argparse
import functools
import os
import sys
import tempfile
import time
from typing import Any

import _eight_devices  # noqa: F401  before jax
import _linear
import _passages
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
from jax.sharding import NamedSharding, PartitionSpec

import flaxmodels as fm
from flaxmodels import params as fp
from flaxmodels import sharding as fs

CONFIG: dict[str, Any] = {
    "vocab_size": _passages.VOCABULARY,
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 256,
    "max_position_embeddings": _passages.LENGTH,
    "pad_token_id": _passages.PAD,
    "hidden_dropout_prob": 0.3,
    "num_labels": len(_passages.PACKAGES),
}
BATCH, RATE = 64, 2e-3
HIDDEN = 0.4
"""Share of the words that a step does not see."""
SMOOTHING = 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description="A functional fine-tune.")
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folder", help="where the state of a run is kept")
    args = parser.parse_args()
    train, validation, held_out = map(_passages.passages, _passages.SPLITS)
    vectors = _passages.vectors(CONFIG["hidden_size"])
    ids = [vectors.ids(split) for split in (train, validation, held_out)]
    print(f"{len(ids[0]):,} passages to learn from, {len(ids[2]):,} held out", flush=True)

    shares = []
    for seed in range(args.seeds):
        start = time.perf_counter()
        model, params = pretrained(vectors, seed)
        with tempfile.TemporaryDirectory() as scratch:
            folder = os.path.join(os.path.abspath(args.folder or scratch), f"seed-{seed}")
            params = finetune(
                model, params, ids[0], train.labels, steps=args.steps, seed=seed, folder=folder
            )
        rows = ((ids[1], validation.labels), (ids[2], held_out.labels))
        shares.append([accuracy(model, params, *row) for row in rows])
        seconds = time.perf_counter() - start
        print(f"seed {seed}: {said(shares[-1])}, {seconds:.0f} s", flush=True)

    bert, linear = np.mean(shares, axis=0), _linear.accuracy(train, validation, held_out)
    informed = _linear.accuracy(train, validation, held_out, vectors)
    print(f"BERT, mean of {args.seeds}: {said(bert)}")
    print(f"linear, words and pairs of words: {said(linear)}")
    print(f"linear, and the mean word vector: {said(informed)}")
    if bert[1] <= linear[1]:
        sys.exit("finetune_classifier: the model does not beat the linear one")


def said(shares: Any) -> str:
    return f"validation {shares[0]:.3f}, held out {shares[1]:.3f}"


def pretrained(vectors: _passages.Vectors, seed: int) -> tuple[Any, Any]:
    """A new BERT over these vectors, on all devices: bfloat16, but norms float32."""
    model = fm.BertForSequenceClassification(fm.BertConfig(**CONFIG))
    params = model.init_params(jax.random.key(seed), fs.make_mesh(data=-1))
    model, params = model.set_input_embeddings(params, {"embedding": vectors.table})
    return model, fp.to_bf16(params, fp.mask_except(params, "LayerNorm"))


def finetune(
    model: Any,
    params: Any,
    ids: np.ndarray,
    labels: np.ndarray,
    *,
    steps: int,
    seed: int,
    folder: str,
    every: int = 100,
) -> Any:
    """`params` after `steps` on passages drawn at random; goes on from what is in `folder`.

    Args:
        ids: int32 [N, T].
        labels: int32 [N].
        every: steps between two saves.
    """
    optimizer, step = _program(model, RATE, steps)
    mesh = jax.tree.leaves(params)[0].sharding.mesh
    everywhere = NamedSharding(mesh, PartitionSpec())
    state = optimizer.init(fp.to_fp32(params))  # moments in float32, where their params are
    state = jax.tree.map(lambda x: x if x.ndim else jax.device_put(x, everywhere), state)
    key = jax.random.key(seed)
    spread = NamedSharding(mesh, PartitionSpec("data"))
    options = ocp.CheckpointManagerOptions(save_interval_steps=every, max_to_keep=1)
    with ocp.CheckpointManager(folder, options=options) as manager:
        done = manager.latest_step() or 0
        if done:
            saved = ocp.args.StandardRestore((params, state))
            params, state = manager.restore(done, args=saved)
        for i in range(done, steps):
            some = np.random.default_rng((seed, i)).integers(len(ids), size=BATCH)
            batch = jax.device_put((ids[some], labels[some]), spread)
            params, state = step(params, state, jax.random.fold_in(key, i), *batch)
            manager.save(i + 1, args=ocp.args.StandardSave((params, state)))
    return params


@functools.cache
def _program(model: Any, rate: float, steps: int) -> tuple[optax.GradientTransformation, Any]:
    """Returns the optimizer of a run and its step, compiled once for runs that are alike."""
    schedule = optax.warmup_cosine_decay_schedule(0.0, rate, min(100, steps // 2), steps)
    adamw, none = optax.adamw(schedule, weight_decay=0.01), optax.set_to_zero()
    optimizer = optax.multi_transform(
        {True: adamw, False: none}, lambda params: fp.mask_except(params, "word_embeddings")
    )

    def loss(params: Any, key: jax.Array, ids: jax.Array, labels: jax.Array) -> jax.Array:
        hide, dropout = jax.random.split(key)
        hidden = jax.random.bernoulli(hide, HIDDEN, ids.shape) & (ids > _passages.CLS)
        seen = jnp.where(hidden, _passages.UNKNOWN, ids)
        noise = {"deterministic": False, "rngs": {"dropout": dropout}}
        logits = model.apply({"params": params}, seen, ids != _passages.PAD, **noise).logits
        targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), SMOOTHING)
        return optax.softmax_cross_entropy(logits, targets).mean()

    def step(params: Any, state: Any, key: jax.Array, *batch: jax.Array) -> tuple[Any, Any]:
        grads = jax.grad(loss)(params, key, *batch)
        updates, state = optimizer.update(fp.to_fp32(grads), state, params)
        return optax.apply_updates(params, updates), state

    return optimizer, jax.jit(step, donate_argnums=(0, 1))


def accuracy(model: Any, params: Any, ids: np.ndarray, labels: np.ndarray) -> float:
    """Share of passages whose package is the most probable."""
    logits = jax.jit(model.apply)({"params": params}, ids, ids != _passages.PAD).logits
    return float((np.asarray(logits).argmax(-1) == labels).mean())


if __name__ == "__main__":
    main()
