"""The error that every reader and writer of checkpoints raises."""


class CheckpointError(ValueError):
    """A checkpoint that cannot be read or written as asked: file, tensor, expected, got."""


def quoted(name: object) -> str:
    """A name out of a file, safe to print: control characters escaped, at most 200 characters."""
    text = repr(str(name))
    return text if len(text) <= 200 else f"{text[:180]}... ({len(text)} characters)"


def some(names, most: int = 10) -> str:
    """The first `most` names of a collection, and how many more there are."""
    names = list(names)
    shown = ", ".join(str(name) for name in names[:most])
    return shown if len(names) <= most else f"{shown}, ... ({len(names) - most} more)"
