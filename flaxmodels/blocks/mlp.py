"""The feed-forward block of a layer: two products with an activation between, gated or not."""

import jax
from flax import linen as nn

from .. import sharding as fs
from .activations import ACTIVATIONS
from .remat import named
from .weights.linear import Linear


class MLP(nn.Module):
    """Computes down(act(up(x))): x [B, T, D] -> [B, T, features].

    Attributes:
        inner: F, the width between the products.
        act: a name of `ACTIVATIONS`.
        std: of the normals from which the kernels are drawn.
        rules: from logical axes to those of a mesh; activations are constrained by them.
        names: of the products, the last of which is down.
        out_std: of the last kernel's normal; None for `std`.
        inner_dropout: rate at which activations are dropped.
        dropout: rate at which results are dropped.
    """

    features: int
    inner: int
    act: str
    std: float
    rules: fs.Rules = fs.DEFAULT_RULES
    names: tuple[str, ...] = ("fc1", "fc2")
    use_bias: bool = True
    out_std: float | None = None
    inner_dropout: float = 0.0
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array, *, deterministic: bool = True) -> jax.Array:
        def widened(name: str) -> jax.Array:
            y = Linear(self.inner, ("embed", "mlp"), self.std, self.use_bias, name=name)(x)
            return named(y, "mlp_hidden")

        first, *others, down = self.names
        y = ACTIVATIONS[self.act](widened(first))
        for name in others:
            y = y * widened(name)
        y = fs.constrain(y, ("batch", "length", "mlp"), self.rules)
        if self.inner_dropout:
            y = nn.Dropout(self.inner_dropout)(y, deterministic=deterministic)
        std = self.std if self.out_std is None else self.out_std
        y = Linear(self.features, ("mlp", "embed"), std, self.use_bias, name=down)(y)
        return nn.Dropout(self.dropout)(y, deterministic=deterministic)


class GatedMLP(MLP):
    """Computes down(act(gate(x)) * up(x)) (Shazeer 2020, arXiv:2002.05202): x [B, T, D] ->
    [B, T, features].

    The attributes are those of `MLP`; `names` are of gate, up and down.
    """

    names: tuple[str, ...] = ("gate_proj", "up_proj", "down_proj")
    use_bias: bool = False
