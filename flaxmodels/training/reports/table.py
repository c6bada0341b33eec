"""Metrics as a table on the terminal: a row a report, a heading when the columns change."""

from .lines import Values

_LEFT_OUT = ("count", "finite")


class Table:
    """Prints rows to stdout, the loss first. `count` is left out, and `finite` is said where it is
    false."""

    def __init__(self) -> None:
        self._columns: tuple[str, ...] = ()

    def write(self, step: int, values: Values) -> None:
        """Prints a row, and the names of its columns above it if they are new."""
        names = [name for name in values if name not in _LEFT_OUT]
        shown = {name: values[name] for name in sorted(names, key=lambda name: name != "loss")}
        if not {*shown} <= {*self._columns}:
            self._columns = tuple(dict.fromkeys([*self._columns, *shown]))
            print("  ".join(["    step", *(f"{name:>10}" for name in self._columns)]))
        cells = [_shown(shown[name]) if name in shown else "" for name in self._columns]
        widths = [max(10, len(name)) for name in self._columns]
        row = [f"{step:8}", *(f"{x:>{w}}" for x, w in zip(cells, widths, strict=True))]
        odd = [] if values.get("finite", True) else ["not finite: skipped"]
        print("  ".join(row + odd).rstrip(), flush=True)

    def close(self) -> None:
        """Does nothing: rows are printed as they come."""


def _shown(value: float | int | bool) -> str:
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}" if abs(value) < 1e9 else f"{value:.3e}"
    return f"{value:.4f}" if abs(value) >= 1e-3 else f"{value:.2e}" if value else "0"
