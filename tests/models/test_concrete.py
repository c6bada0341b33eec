"""Values that are known where they are asked for, and the check of token ids."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxmodels.calls.known_values import check_token_ids, is_traced, known

V = 10


def test_what_is_traced_and_what_is_known():
    x = np.arange(3)
    seen = []

    def look(y):
        seen.append((is_traced(x), is_traced(y), known(x) is not None, known(y) is None))
        return y

    look(jnp.asarray(x))
    assert seen == [(False, False, True, False)]
    for transform in (jax.jit, jax.vmap, lambda f: jax.jit(jax.vmap(f))):
        seen.clear()
        transform(look)(jnp.asarray(x))
        assert [entry[1:] for entry in seen] == [(True, True, True)]
    assert seen[0][0], "under jit even constants are computed with later"


@pytest.mark.parametrize(
    "ids",
    [
        [[0, 9]],
        np.array([[0, 9]], np.int64),
        np.array([[0, 9]], np.uint8),
        jnp.array([[0, 9]], jnp.uint32),
        np.zeros((2, 0), int),
    ],
)
def test_ids_of_any_integer_type_are_taken(ids):
    check_token_ids(ids, V)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([[1, 2], [3, 10]], r"input_ids\[1, 1\] is 10.*tokens 0 to 9"),
        (np.array([[1, -1]]), r"input_ids\[0, 1\] is -1"),
        (jnp.array([2**31 - 1]), r"input_ids\[0\] is 2147483647"),
        (np.array([2**40]), r"is 1099511627776"),
        (np.array([2**63], np.uint64), r"is 9223372036854775808"),
    ],
)
def test_ids_that_have_no_row_are_named(ids, message):
    with pytest.raises(ValueError, match=message):
        check_token_ids(ids, V)


@pytest.mark.parametrize("ids", [np.array([1.0]), [[0.5]], [True], np.array(["a"]), [2**70]])
def test_what_is_no_integer_is_refused(ids):
    with pytest.raises(TypeError, match="input_ids must be integers"):
        check_token_ids(ids, V)


def test_dtypes_are_checked_in_a_trace_and_constants_too():
    jax.jit(lambda ids: check_token_ids(ids, V))(np.array([99]))
    with pytest.raises(TypeError, match="must be integers"):
        jax.eval_shape(lambda ids: check_token_ids(ids, V), jax.ShapeDtypeStruct((2,), "float32"))
    with pytest.raises(ValueError, match="is 99"):
        jax.jit(lambda: check_token_ids(np.array([99]), V))()
