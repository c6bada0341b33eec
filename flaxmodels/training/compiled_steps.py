"""Compiled steps: programs of `step_functions`, for states on one device or a mesh."""

import contextlib
import dataclasses
import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from .. import params as fp
from ..core.head_kinds import label_count
from ..core.model import Model
from ..params.scalars import flag
from ..params.tree.keys import one_key
from ..params.tree.paths import flatten_arrays
from ..params.types import PyTree
from . import step_functions, step_inputs
from .accumulate import rows_of
from .placement import Placement, put_batch
from .precision import LossScale
from .recipe import Given, Recipe
from .selection import Trainable, divide, of_adapters
from .state import TrainState


@dataclasses.dataclass(eq=False, repr=False)
class TrainSteps:
    """The compiled steps that `compile` makes; they have no state of their own but programs.

    Attributes:
        recipe: what a step does.
        placement: where states and batches are, by the rules of the model; None without a mesh.
        trainable, param_dtype, seed, steps_per_execution, run_eagerly: as of `compile`.
        first_scale: of the loss; None for no scale.
        model: as it computes in a step.
        mesh: where states and batches are; None for the default device.
    """

    recipe: Recipe
    placement: Placement | None
    trainable: Trainable
    param_dtype: np.dtype | None
    first_scale: LossScale | None
    seed: int | jax.Array
    steps_per_execution: int
    run_eagerly: bool
    _programs: dict[tuple, jax.stages.Wrapped] = dataclasses.field(default_factory=dict, init=False)

    @property
    def model(self) -> Model:
        return self.recipe.model

    @property
    def mesh(self) -> jax.sharding.Mesh | None:
        return None if self.placement is None else self.placement.mesh

    def init(
        self,
        key_or_params: jax.Array | fp.Params,
        *,
        variables: Mapping[str, PyTree] | None = None,
        donate: bool = False,
    ) -> TrainState:
        """Makes the state of step 0, each array where it belongs; none is whole before.

        Args:
            key_or_params: a `jax.random.key`, for new params, or params: as loaded, with adapters,
                quantised.
            variables: other collections of variables of the model, such as running statistics,
                which each step carries on.
            donate: whether the params that are trained may be taken as they are. If False they are
                copied, and the caller's survive the first step.

        Raises:
            TypeError: neither a key nor params; abstract params, or those of a trace.
            ValueError: params that are not the model's; params on a mesh, and steps without one.
        """
        flag("donate", donate)
        is_tree = isinstance(key_or_params, Mapping)
        params = key_or_params if is_tree else self._new_params(key_or_params)
        self._check_params(params)
        step_inputs.check_real(params)
        put = step_inputs.unplaced if self.placement is None else self.placement.put
        trained, frozen = divide(put(params), self.trainable)
        trained = self._masters(trained, copy=is_tree and not donate)
        rest = jax.jit(self._fresh, **self._shardings_of_fresh(trained))
        state: TrainState = rest(trained, step_inputs.collections(variables))
        state = state.replace(trained=trained)
        if self.placement is None:  # committed to its device, as what a step returns is
            state = jax.device_put(state, jax.tree.leaves(trained)[0].sharding)
        return state.replace(frozen=frozen)

    def train_step(
        self, state: TrainState, batch: Given
    ) -> tuple[TrainState, step_functions.Values]:
        """Makes one update -> (state, metrics), or K with `steps_per_execution`.

        The state is donated: its arrays, but for `frozen`, are gone afterwards. Metrics are float32
        scalars on the device: "loss", the mean over what counts; "count"; "grad_norm", before
        clipping; "learning_rate", of an optimizer that is named; those asked for; and a bool,
        "finite". If the loss or a gradient is not finite, nothing changes but `skipped` and the
        loss scale.

        Raises:
            ValueError: a batch without the model's input, with labels that it does not take, or
                with rows that do not divide; labels of which none counts.
        """
        step_inputs.check_state(state, self.mesh)
        batch = self._placed(batch, trains=True)
        program = self._program("train", state)
        new, values = self._run(program, state.replace(frozen={}), state.frozen, batch)
        return new.replace(frozen=state.frozen), values

    def test_step(self, state: TrainState, batch: Given) -> step_functions.Values:
        """Computes "loss", "count" and the metrics of a batch without dropout. A mean over several
        batches weighs each by its "count"."""
        step_inputs.check_state(state, self.mesh)
        batch = self._placed(batch)
        return self._run(self._program("test", state), state, batch)

    def predict_step(self, state: TrainState, batch: Given) -> PyTree:
        """Computes the outputs of the model, without dropout; labels in the batch are passed
        over."""
        step_inputs.check_state(state, self.mesh)
        batch = self._placed(batch)
        return self._run(self._program("predict", state), state, batch)

    def lower(self, state: TrainState, batch: Given) -> jax.stages.Lowered:
        """Lowers the program of `train_step`, of abstract or of real arguments: to compile it ahead
        of time, or to read it."""
        step_inputs.check_kind(state)
        program = self._program("train", state)
        batch = self._placed(batch, trains=True)
        return program.lower(state.replace(frozen={}), state.frozen, batch)

    def abstract_state(self, params: fp.Params | None = None) -> TrainState:
        """Returns the state as `jax.ShapeDtypeStruct`s with their shardings; allocates nothing.

        Args:
            params: as `init` takes them, abstract or not; those of the model in float32 if None.
                Needed where they have adapters or are quantised, or where what is not trained is
                in another dtype.
        """
        placement = self.placement
        if params is None:
            params = self.model.abstract_params() if placement is None else placement.abstract()
        self._check_params(params)
        trained, frozen = divide(jax.tree.map(_abstract, params), self.trainable)
        dtype = self.param_dtype
        trained = jax.tree.map(lambda x: x if dtype is None else x.update(dtype=dtype), trained)
        state: TrainState = jax.eval_shape(self._fresh, trained, {})
        state = state.replace(trained=trained, frozen=frozen)
        if placement is None:
            return state
        return jax.tree.map(lambda x, s: x.update(sharding=s), state, placement.of_state(state))

    def _check_params(self, params: fp.Params) -> None:
        stored = {} if self.placement is None else self.placement.stored
        step_inputs.check_params(self.model, params, stored)

    def _new_params(self, key: jax.Array) -> fp.Params:
        dtype = jnp.float32 if self.param_dtype is None else self.param_dtype
        rules = None if self.placement is None else self.placement.rules
        return self.model.init_params(one_key(key), self.mesh, rules, param_dtype=dtype)

    def _masters(self, trained: fp.Params, *, copy: bool) -> fp.Params:
        """Returns what is trained in its dtype, as arrays that a step may donate."""
        dtype = self.param_dtype
        leaves = fp.flatten(trained)
        made = {p: x for p, x in leaves.items() if copy or x.dtype != (dtype or x.dtype)}

        def new(made: dict[str, jax.Array]) -> dict[str, jax.Array]:
            return {path: jnp.array(x, dtype or x.dtype, copy=True) for path, x in made.items()}

        shardings = {p: x.sharding for p, x in made.items()}
        return fp.unflatten(leaves | (jax.jit(new, out_shardings=shardings)(made) if made else {}))

    def _fresh(self, trained: fp.Params, variables: dict[str, PyTree]) -> TrainState:
        """Makes all of a state but its params; to be traced."""
        seed = self.seed
        key = jax.random.key(seed) if isinstance(seed, int) else one_key(seed)
        zero = jnp.zeros((), jnp.int32)
        average = None
        if self.recipe.ema is not None:
            average = jax.tree.map(lambda x: jnp.array(x, jnp.float32, copy=True), trained)
        wide = jax.tree.map(lambda x: x.astype(jnp.float32), trained)  # moments of 16 bits are none
        return TrainState(
            step=zero,
            skipped=jnp.copy(zero),
            trained={},
            frozen={},
            opt_state=self.recipe.optimizer.init(wide),
            ema=average,
            key=jax.random.clone(key),
            loss_scale=self.first_scale,
            variables=jax.tree.map(jnp.copy, variables),
            adapters=of_adapters(self.trainable),
        )

    def _shardings_of_fresh(self, trained: fp.Params) -> dict[str, PyTree]:
        if self.placement is None:
            return {}
        state: TrainState = jax.eval_shape(self._fresh, trained, {})
        where = self.placement.of_state(state.replace(trained=trained, frozen={}))
        return {"out_shardings": where.replace(trained={}, frozen={})}

    def _program(self, kind: str, state: TrainState) -> jax.stages.Wrapped:
        """Returns a step as a program, which serves all states of a structure; raises `ValueError`
        for a state to train that is of other steps."""
        key = (kind, jax.tree.structure(state))
        if key not in self._programs:
            whole: dict[str, PyTree] = {}
            if self.placement is not None:
                whole["out_shardings"] = self.placement.everywhere
            if kind == "train":
                self._check_own(state)
                made = self._training(state)
            elif kind == "test":
                made = jax.jit(functools.partial(step_functions.test_step, self.recipe), **whole)
            else:
                made = jax.jit(functools.partial(step_functions.predict_step, self.recipe))
            self._programs[key] = made
        return self._programs[key]

    def _check_own(self, state: TrainState) -> None:
        trained = fp.flatten(divide(state.params, self.trainable)[0])
        if odd := sorted(trained.keys() ^ fp.flatten(state.trained).keys()):
            does, is_there = ("", "frozen") if odd[0] in trained else ("do not ", "trained")
            raise ValueError(
                f"the state is that of other steps: these {does}train {odd[0]}, which is "
                f"{is_there} in it; make the state by init of these steps"
            )
        own: TrainState = jax.eval_shape(self._fresh, state.trained, state.variables)
        for name in ("opt_state", "ema", "loss_scale"):
            found, expected = (jax.tree.structure(getattr(x, name)) for x in (state, own))
            if found != expected:
                raise ValueError(
                    f"{name} of the state is that of other steps: found {found!s:.200}, "
                    f"expected {expected!s:.200}; make the state by init of these steps"
                )

    def _training(self, state: TrainState) -> jax.stages.Wrapped:
        recipe, placement = self.recipe, self.placement
        options: dict[str, PyTree] = {}
        is_one = self.steps_per_execution == 1
        function = step_functions.train_step if is_one else step_functions.train_steps
        where = step_functions.Where()
        if placement is not None:
            all_of = placement.of_state(state)
            updates = placement.followed(state.trained, state.trained, all_of.trained)
            where = step_functions.Where(all_of.trained, updates)
            options["out_shardings"] = (all_of.replace(frozen={}), placement.everywhere)

        def train_step(
            changing: TrainState, frozen: fp.Params, batch: Given
        ) -> tuple[TrainState, step_functions.Values]:
            new, values = function(recipe, changing.replace(frozen=frozen), batch, where)
            return new.replace(frozen={}), values

        return jax.jit(train_step, donate_argnums=0, **options)

    def _run(self, program: jax.stages.Wrapped, *arguments: PyTree) -> PyTree:
        with jax.disable_jit() if self.run_eagerly else contextlib.nullcontext():
            return program(*arguments)

    def _placed(self, batch: Given, *, trains: bool = False) -> Given:
        """Returns a batch after its checks, on the mesh."""
        batch = step_inputs.named(self.model, batch)
        arrays = flatten_arrays(batch)
        is_own = self.recipe.objective.function is None
        labels = label_count(self.model) if is_own else None
        step_inputs.check_columns(arrays, self.model.prompt_vocab_size, labels)
        many = trains and self.steps_per_execution > 1
        parts = self.recipe.accumulate if trains else 1
        parts *= 1 if self.placement is None else self.placement.batch_parts
        rows_of(arrays, parts, lead=int(many))
        counts = {name: np.shape(x)[0] for name, x in arrays.items()} if many else {}
        if {*counts.values()} - {self.steps_per_execution}:
            raise ValueError(
                f"steps_per_execution is {self.steps_per_execution}, and the arrays of the batch "
                f"begin with {counts}: expected [{self.steps_per_execution}, B, ...]"
            )
        return put_batch(batch, self.recipe.spread, lead=int(many))


def _abstract(x: jax.Array | jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    where = getattr(x, "sharding", None)
    return jax.ShapeDtypeStruct(
        x.shape, x.dtype, sharding=where if isinstance(where, NamedSharding) else None
    )
