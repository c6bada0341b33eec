"""Trains a GPT-2 piece by piece on request: one process of `bench_train.py`.

    PYTHON _train_worker.py LIBRARY FOLDER ROWS TOKENS

Needs nothing but the library that it measures. For every line of its input, the name of a piece, it
does that piece once and prints {"s": seconds, "cpu s": of all threads, "value": the loss or None}
as a line of JSON.
"""

import functools
import json
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

Pieces = dict[str, Callable[[np.ndarray], Any]]
"""name -> a function of ids [B, T] that waits for its results and returns the loss, or None."""
RATE, DECAY = 1e-4, 0.01


def main() -> None:
    library, folder, rows, tokens = sys.argv[1:]
    pieces, vocabulary = LIBRARIES[library](folder)
    rng = np.random.RandomState(0)
    for line in sys.stdin:
        ids = rng.randint(0, vocabulary, (int(rows), int(tokens))).astype(np.int32)
        cpu, start = _cpu(), time.perf_counter()
        value = pieces[line.strip()](ids)
        took = {"s": time.perf_counter() - start, "cpu s": _cpu() - cpu}
        print(json.dumps({**took, "value": None if value is None else float(value)}), flush=True)


def ours(folder: str, chunked_loss: bool | int = False) -> tuple[Pieces, int]:
    import jax
    import jax.numpy as jnp
    import optax

    import flaxmodels as fm

    model, params = fm.GPT2LMHeadModel.from_pretrained(folder, progress=False)
    options: Any = {"learning_rate": RATE, "weight_decay": DECAY, "decay_mask": True}
    steps = fm.training.compile(model, "adamw", chunked_loss=chunked_loss, **options)
    state = steps.init(params, donate=True)
    computing = model.clone(defer_logits=chunked_loss)

    def loss(params: Any, ids: Any, key: Any) -> jax.Array:
        inputs, labels = fm.training.match_labels(model, {"input_ids": ids, "labels": ids})
        passing: Any = {"deterministic": False, "rngs": {"dropout": key}}
        outputs = computing.apply({"params": params}, **inputs, **passing)
        return fm.training.loss(model, outputs, labels)

    def step(ids: np.ndarray) -> Any:
        nonlocal state
        state, metrics = steps.train_step(state, {"input_ids": ids, "labels": ids})
        return jax.block_until_ready(metrics["loss"])

    optimizer = optax.adamw(RATE, weight_decay=DECAY)
    pieces = _by_optax(lambda: state.params, loss, optimizer, jax, jnp, optax)
    return {**pieces, "step": step}, model.config.vocab_size


def old_flax(folder: str) -> tuple[Pieces, int]:
    import jax
    import jax.numpy as jnp
    import optax
    import transformers

    model = transformers.FlaxGPT2LMHeadModel.from_pretrained(folder)
    optimizer = optax.adamw(RATE, weight_decay=DECAY)

    def loss(params: Any, ids: Any, key: Any) -> jax.Array:
        logits = model(ids, params=params, dropout_rng=key, train=True).logits[:, :-1]
        return optax.softmax_cross_entropy_with_integer_labels(logits, ids[:, 1:]).mean()

    pieces = _by_optax(lambda: model.params, loss, optimizer, jax, jnp, optax)
    return pieces, model.config.vocab_size


def _by_optax(
    params_now: Callable[[], Any], loss: Any, optimizer: Any, jax: Any, jnp: Any, optax: Any
) -> Pieces:
    """Makes the pieces of a step that is written by hand, with params and moments donated.

    Args:
        loss: (params, ids, key) -> a scalar.
        jax, jnp, optax: the modules of this process.
    """
    keys = iter(range(1 << 30))

    @functools.cache
    def state() -> dict[str, Any]:
        """Returns params of its own and what goes with them, made when they are first needed."""
        own = jax.tree_util.tree_map(jnp.array, params_now())
        zeros = jax.tree_util.tree_map(jnp.zeros_like, own)
        return {"params": own, "opt": jax.jit(optimizer.init)(own), "grads": zeros}

    def update(params: Any, opt: Any, grads: Any) -> Any:
        updates, opt = optimizer.update(grads, opt, params)
        return optax.apply_updates(params, updates), opt

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params: Any, opt: Any, ids: Any, key: Any) -> Any:
        value, grads = jax.value_and_grad(loss)(params, ids, key)
        return *update(params, opt, grads), value

    forward, gradient = jax.jit(loss), jax.jit(jax.value_and_grad(loss))
    only_update = jax.jit(update, donate_argnums=(0, 1))

    def passing(ids: np.ndarray) -> Any:
        return state()["params"], ids, jax.random.PRNGKey(next(keys))

    def do_step(ids: np.ndarray) -> Any:
        kept, (params, ids, key) = state(), passing(ids)
        kept["params"], kept["opt"], value = step(params, kept["opt"], ids, key)
        return jax.block_until_ready(value)

    def do_optimizer(ids: np.ndarray) -> None:
        del ids
        kept = state()
        new = only_update(kept["params"], kept["opt"], kept["grads"])
        kept["params"], kept["opt"] = jax.block_until_ready(new)

    return {
        "step": do_step,
        "forward": lambda ids: jax.block_until_ready(forward(*passing(ids))),
        "gradient": lambda ids: jax.block_until_ready(gradient(*passing(ids)))[0],
        "optimizer": do_optimizer,
    }


def by_torch(folder: str) -> tuple[Pieces, int]:
    import torch
    import transformers

    model = transformers.GPT2LMHeadModel.from_pretrained(folder).train()
    optimizer = torch.optim.AdamW(model.parameters(), RATE, weight_decay=DECAY)

    def forward(ids: np.ndarray) -> Any:
        batch = torch.from_numpy(ids.astype(np.int64))
        return model(batch, labels=batch).loss

    def gradient(ids: np.ndarray) -> Any:
        optimizer.zero_grad()
        value = forward(ids)
        value.backward()
        return value.detach()

    def step(ids: np.ndarray) -> Any:
        value = gradient(ids)
        optimizer.step()
        return value.detach()

    def evaluated(ids: np.ndarray) -> Any:
        with torch.no_grad():
            return forward(ids)

    def update(ids: np.ndarray) -> None:
        del ids
        optimizer.step()

    pieces = {"step": step, "forward": evaluated, "gradient": gradient, "optimizer": update}
    return pieces, model.config.vocab_size


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


LIBRARIES = {"flaxmodels": ours, "pytorch": by_torch, "old-flax": old_flax}

if __name__ == "__main__":
    main()
