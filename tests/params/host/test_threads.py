"""Work that several threads share."""

import _children
import pytest

from flaxmodels.params.host.threads import in_threads


def test_threads_help_and_an_error_is_raised():
    def inner(i):
        assert i < 99, "of the work"
        return i + 1

    def outer(i):
        return sum(in_threads(inner, range(i, i + 9), 1 << 30))

    assert in_threads(outer, range(50), 1 << 30) == [9 * i + 45 for i in range(50)]
    with pytest.raises(AssertionError, match="of the work"):
        in_threads(outer, range(1000), 1 << 30)


def test_a_child_without_its_parents_threads_works():
    code = "import os; from flaxmodels.params.host.threads import in_threads\n"
    code += "def call(): return in_threads(lambda i: i, range(99), 1 << 30) == [*range(99)]\n"
    code += "assert call()\nif child := os.fork():\n"
    code += "    os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    code += "os._exit(0 if call() else 3)"
    assert _children.run("-c", code).returncode == 0


def test_a_child_casts_what_its_parent_loaded():
    """As of a saver that forks: the child has none of XLA's threads, which compile and compute."""
    code = "import os, jax, jax.numpy as jnp; from flaxmodels import params as fp\n"
    code += "tree = {'kernel': jnp.ones((2, 3)) + 0, 'table': jnp.ones((1 << 22,)) + 0}\n"
    code += "cast = jax.block_until_ready(fp.to_bf16(tree))\n"
    code += "if child := os.fork():\n"
    code += "    os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    code += "os._exit(0 if fp.diff(fp.to_bf16(tree), cast).equal else 3)"
    assert _children.run("-c", code).returncode == 0


def test_a_child_of_a_process_that_used_no_device_compiles():
    code = "import os, numpy as np; from flaxmodels.params.host import kernels\n"
    code += "if child := os.fork():\n"
    code += "    os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    code += "os._exit(0 if kernels.compiles(np.dtype('float32')) else 3)"
    assert _children.run("-c", code).returncode == 0
