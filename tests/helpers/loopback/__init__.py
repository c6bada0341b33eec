"""A Hub and a plain web server on this machine, for tests: nothing here leaves the loopback."""

from loopback.faults import Fault
from loopback.hub import LoopbackHub

__all__ = ["Fault", "LoopbackHub"]
