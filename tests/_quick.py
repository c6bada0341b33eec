"""A fixture for modules of tests whose programs run once: what optimises them takes longer than
they do. `from _quick import quick_compilation` serves the whole module."""

from collections.abc import Iterator

import jax
import pytest


@pytest.fixture(scope="module", autouse=True)
def quick_compilation() -> Iterator[None]:
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
