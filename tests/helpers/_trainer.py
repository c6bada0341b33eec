"""A small training run of a process of its own, which may be killed: tests and
`scripts/soaks/soak_resume.py` compare its losses with those of a run that nobody killed.

    _trainer.py FOLDER STEPS EVERY async|sync [KILL_AT SECONDS]

Prints a line `step loss` for each step, the loss to the last bit. With KILL_AT it is killed, as by
`kill -9`, so many seconds after that step has begun.
"""

import os
import signal
import sys
import threading
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

WIDTH = 32


@struct.dataclass
class State:
    """A state as `TrainState` has one: keys, an optimizer's tuple, params in two parts."""

    step: Any
    trained: Any
    frozen: Any
    opt_state: Any
    key: Any

    @property
    def params(self) -> Any:
        return {**self.trained, **self.frozen}


OPTIMIZER = optax.adamw(1e-2)


def init() -> Any:
    rng = np.random.default_rng(0)
    draw = lambda: jnp.asarray(rng.normal(size=(WIDTH, WIDTH)), jnp.float32)  # noqa: E731
    trained = {"up": {"kernel": draw()}, "down": {"kernel": draw().astype(jnp.bfloat16)}}
    frozen = {"scale": jnp.full((WIDTH,), 0.5, jnp.float32)}
    return State(
        jnp.zeros((), jnp.int32),
        trained,
        frozen,
        jax.jit(OPTIMIZER.init)(trained),
        jax.random.key(7),
    )


def _loss(trained: Any, state: State, x: jax.Array) -> jax.Array:
    kept = jax.random.bernoulli(jax.random.fold_in(state.key, state.step), 0.8, x.shape)
    y = jnp.tanh(jnp.where(kept, x, 0.0) @ trained["up"]["kernel"] * state.frozen["scale"][None])
    return jnp.mean((y @ trained["down"]["kernel"].astype(jnp.float32) - x) ** 2)


def _train_step(state: State, x: jax.Array) -> tuple[State, jax.Array]:
    loss, gradients = jax.value_and_grad(_loss)(state.trained, state, x)
    updates, opt_state = OPTIMIZER.update(gradients, state.opt_state, state.trained)
    trained = optax.apply_updates(state.trained, updates)
    new: Any = state
    return new.replace(step=state.step + 1, trained=trained, opt_state=opt_state), loss


train_step = jax.jit(_train_step, donate_argnums=0)


class Batches:
    """Random batches without an end; the state is how many were taken."""

    def __init__(self) -> None:
        self.taken = 0

    def __next__(self) -> np.ndarray:
        rng = np.random.default_rng(self.taken)
        self.taken += 1
        return rng.normal(size=(8, WIDTH)).astype(np.float32)

    def state(self) -> dict[str, int]:
        return {"taken": self.taken}

    def restore(self, state: dict[str, int]) -> None:
        self.taken = state["taken"]


def run(checkpoints: Any, steps: int, say: Any = lambda step, loss: None) -> State:
    """Takes a run up, and trains until so many steps are made."""
    state, batches = init(), Batches()
    if found := checkpoints.restore(state):
        state, data = found
        batches.restore(data)
    while batches.taken < steps and not checkpoints.should_stop:
        state, loss = train_step(state, next(batches))
        say(batches.taken, loss)
        checkpoints.save(state, batches.state(), force=batches.taken == steps)
    return state


def curve(steps: int) -> dict[int, str]:
    """Returns the losses of a run that nobody kills, to the last bit."""
    state, batches, losses = init(), Batches(), {}
    for step in range(1, steps + 1):
        state, loss = train_step(state, next(batches))
        losses[step] = float(loss).hex()
    return losses


def main() -> None:
    from flaxmodels.training import Checkpoints

    folder, steps, every, mode, *kill = sys.argv[1:]
    kill_at, seconds = (int(kill[0]), float(kill[1])) if kill else (0, 0.0)

    def say(step: int, loss: jax.Array) -> None:
        if step == kill_at:
            if not seconds:
                os.kill(os.getpid(), signal.SIGKILL)
            threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL)).start()
        print(f"{step} {float(loss).hex()}", flush=True)  # as one: what follows may be the end

    options = {"every": int(every), "keep": 2, "async_": mode == "async"}
    with Checkpoints(folder, **options) as checkpoints:
        run(checkpoints, int(steps), say)


if __name__ == "__main__":
    main()
