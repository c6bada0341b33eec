"""Lowering: a model and a signature -> a program that needs neither, by `jax.export`.

Its arguments are `{path: array}` of the params and `{name: array}` of the inputs, its result
`{name: array}`: plain dicts, so that no class has to be known where it is run. Sizes with a name
stay symbols (`jax.export.symbolic_shape`): one program serves all of them.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import export

from ..core.model import Model
from ..params.errors import warn
from ..params.host.threads import run_untraced
from ..params.tree.paths import flatten_arrays
from ..params.types import PyTree
from .arrays import Arrays, Spec, named_dims
from .errors import ServingError
from .signatures import Signature


class FlatTree(NamedTuple):
    """The structure of a tree of arrays, of which a program is given `{path: array}`."""

    paths: tuple[str, ...]
    structure: jax.tree_util.PyTreeDef

    @classmethod
    def of(cls, tree: PyTree) -> "FlatTree":
        return cls(tuple(flatten_arrays(tree)), jax.tree.structure(tree))

    def tree(self, arrays: Mapping[str, jax.Array]) -> PyTree:
        """Returns the tree of `{path: array}`."""
        return jax.tree.unflatten(self.structure, [arrays[path] for path in self.paths])


def portable(model: Model) -> Model:
    """Returns the model with nothing that one platform alone can run, and nothing for training; an
    attention that is changed is told."""
    if model.attn_implementation == "flash":
        warn(
            "attn_implementation 'flash' is cuDNN's: the export computes attention by 'sdpa', "
            "which every platform runs"
        )
        model = model.clone(attn_implementation="sdpa")
    return model.clone(remat=None, embed_tap=False, defer_logits=False, generation_config=None)


def lower(
    model: Model,
    params: PyTree,
    name: str,
    signature: Signature,
    bounds: Mapping[str, int],
    platforms: Sequence[str],
) -> export.Exported:
    """Lowers a signature for all platforms; reads no numbers.

    Args:
        params: of the model, or abstract.
        name: of the signature, for errors.
        bounds: {name of a dimension: the most that it may be}.

    Raises:
        ServingError: a program that depends on a size with a name, or that a platform cannot run;
            JAX's reason is told.
    """
    flat = FlatTree.of(params)
    arrays = {p: jax.ShapeDtypeStruct(x.shape, x.dtype) for p, x in flatten_arrays(params).items()}
    run = signature.function or model.serving()

    def program(arrays: Arrays, inputs: Arrays) -> Arrays:
        output = model.serving_output(run(flat.tree(arrays), inputs))
        if not output:
            raise ValueError("its function gives no arrays")
        return output

    def exported() -> export.Exported:
        inputs = abstract_inputs(signature.inputs, bounds)
        return export.export(jax.jit(program), platforms=platforms)(arrays, inputs)

    try:
        # Not in the caller's mesh: the program is one device's, and is spread where it is called.
        return run_untraced(exported)
    except jax.errors.InconclusiveDimensionOperation as error:
        raise ServingError(_depends(name, model, signature, error)) from error
    except (TypeError, ValueError, NotImplementedError, KeyError) as error:
        if isinstance(error, TypeError) and "interpreted as an integer" in str(error):
            raise ServingError(_depends(name, model, signature, error)) from error
        raise ServingError(
            f"{name} of {type(model).__name__} cannot be exported: {_first(error)}"
        ) from error


def abstract_inputs(
    specs: Mapping[str, Spec], bounds: Mapping[str, int]
) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns inputs without values; all dimensions of one name are one symbol."""
    names = named_dims(specs)
    limits = [f"{name} <= {bounds[name]}" for name in names if name in bounds]
    symbols: dict[int | str, object] = {}
    if names:
        made = export.symbolic_shape(", ".join(names), constraints=limits)
        symbols = dict(zip(names, made, strict=True))
    return {
        name: jax.ShapeDtypeStruct(
            tuple(symbols.get(dim, dim) for dim in spec.dims), jnp.dtype(spec.dtype)
        )
        for name, spec in specs.items()
    }


def outputs_of(exported: export.Exported) -> dict[str, Spec]:
    """Returns what a program gives."""
    return jax.tree.unflatten(exported.out_tree, [Spec.of(x) for x in exported.out_avals])


def _depends(name: str, model: Model, signature: Signature, error: Exception) -> str:
    dims = ", ".join(signature.dims)
    return (
        f"{name} of {type(model).__name__} cannot be exported for any {dims}: its program depends "
        f"on the size ({_first(error)}); give a smaller max_length, or a signature with a size "
        'instead of the name, such as "int32[batch, 128]"'
    )


def _first(error: Exception) -> str:
    """Returns what an error says, without where in JAX it comes from."""
    text = str(error) or type(error).__name__
    return text.split("\n")[0].rstrip(".")
