"""The state of a training run: one value, which a step takes and returns."""

import jax
from flax import struct

from .. import params as fp
from ..params.types import PyTree
from .precision import LossScale
from .selection import join


class TrainState(struct.PyTreeNode):
    """All that a run needs to go on, but for its data.

    Attributes:
        step: int32 [], the number of updates that were made.
        skipped: int32 [], the number of steps whose loss or gradients were not finite, which
            changed nothing.
        trained: the params that are trained, in `param_dtype`; of adapters, what
            `fp.split_adapters` calls so.
        frozen: the others, as they were loaded. A step neither changes nor donates them.
        opt_state: of the optimizer.
        ema: float32, the exponential moving average of `trained`; None without.
        key: a `jax.random.key`, from which those of dropout are made.
        loss_scale: of float16; None without.
        variables: collections of variables other than params, such as running statistics.
        adapters: whether adapters alone are trained.
    """

    step: jax.Array
    skipped: jax.Array
    trained: fp.Params
    frozen: fp.Params
    opt_state: PyTree
    ema: fp.Params | None
    key: jax.Array
    loss_scale: LossScale | None
    variables: dict[str, PyTree]
    adapters: bool = struct.field(pytree_node=False, default=False)

    @property
    def params(self) -> fp.Params:
        """The params of the model, to apply, generate or save with."""
        return join(self.trained, self.frozen, adapters=self.adapters)

    def averaged(self) -> "TrainState":
        """Returns the state with the moving average in the place of what is trained, to evaluate or
        save: `steps.test_step(state.averaged(), batch)`.

        Raises:
            ValueError: there is none.
        """
        if self.ema is None:
            raise ValueError("the state has no moving average; compile(..., ema=0.999) keeps one")
        means = jax.tree.map(lambda mean, x: mean.astype(x.dtype), self.ema, self.trained)
        return self.replace(trained=means)
