"""Whoever called this library: warnings point at their line, not at one of ours."""

import os
import sys
import warnings

import flax

from .. import params, sharding
from ..params.errors import printable

_INSIDE = tuple(
    os.path.join(os.path.dirname(os.path.abspath(path)), "")
    for path in (os.path.dirname(__file__), params.__file__, sharding.__file__, flax.__file__)
    if path
)


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warns at the nearest line outside of this library's files, and of linen's, which wraps the
    methods of models.

    Python 3.12 has `skip_file_prefixes` for it; 3.11 has not.
    """
    level, frame = 2, sys._getframe(1)
    while frame is not None and os.path.abspath(frame.f_code.co_filename).startswith(_INSIDE):
        level, frame = level + 1, frame.f_back
    warnings.warn(printable(message), category, stacklevel=level)
