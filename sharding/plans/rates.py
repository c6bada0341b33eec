"""Rates: bytes per second, by which plans estimate times."""

import dataclasses

import numpy as np

_NUMBER = int | float | np.integer | np.floating


@dataclasses.dataclass(frozen=True)
class Rates:
    """Holds bytes per second, to be stated for the machine at hand.

    Attributes:
        disk: that a host reads of its files (NVMe 6e9 to 1.4e10, the page cache 2.5e10, storage on
            a network 1e8 to 2e9).
        bus: from host memory to one device (PCIe 3 x16 pinned 1.2e10, pageable 6e9; PCIe 5 5.5e10).
        memory: that one device reads of its own memory (an H100 3.3e12, a CPU's cores 3e10).
        network: that one device sends in collectives.
    """

    disk: float = 6e9
    bus: float = 1.2e10
    memory: float = 3.3e12
    network: float = 5e10

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            is_number = isinstance(value, _NUMBER) and not isinstance(value, bool)
            if not (is_number and 0 < value < float("inf")):
                raise ValueError(
                    f"Rates: {name} is {value!r:.80}; expected bytes per second above 0"
                )

    @classmethod
    def of(cls, rates: "Rates | None") -> "Rates":
        """Returns the rates, or the defaults for None.

        Raises:
            TypeError: something else.
        """
        if not isinstance(rates, cls | None):
            raise TypeError(f"rates is a {type(rates).__name__}; expected Rates(disk=6e9, ...)")
        return rates or cls()
