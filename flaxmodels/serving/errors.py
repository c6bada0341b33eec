"""The error of exports that cannot be made, read, or called as asked."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from ..params.errors import PrintableError

T = TypeVar("T")
P = ParamSpec("P")


class ServingError(PrintableError):
    """An export, a signature or an input that is not as it must be: which, expected, got, and what
    to try."""


def checked(check: Callable[P, T], *args: P.args, **given: P.kwargs) -> T:
    """Returns `check(*args)`, whose `TypeError` and `ValueError` become `ServingError`."""
    try:
        return check(*args, **given)
    except (TypeError, ValueError) as error:
        raise ServingError(error) from None
