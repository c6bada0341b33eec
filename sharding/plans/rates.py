"""Rates: bytes per second, by which plans estimate times."""

import dataclasses


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
