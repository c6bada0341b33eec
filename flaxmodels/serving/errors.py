"""The error of exports that cannot be made, read, or called as asked."""

from ..params.errors import PrintableError


class ServingError(PrintableError):
    """An export, a signature or an input that is not as it must be: which, expected, got, and what
    to try."""
