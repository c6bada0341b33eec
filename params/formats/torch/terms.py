"""Terms: inert stand-ins for the objects of a pickle that are not plain data."""

import dataclasses
from typing import Any, ClassVar


@dataclasses.dataclass(eq=False, repr=False, slots=True)
class Global:
    """A name that the pickler would have imported: "module.name"."""

    name: str


@dataclasses.dataclass(eq=False, repr=False, slots=True)
class Call:
    """What calling a global would have made.

    Attributes:
        built: whether the object was then given a state or items.
    """

    name: str
    args: Any
    built: bool = False


@dataclasses.dataclass(eq=False, repr=False, slots=True)
class Persistent:
    """What the pickler wrote elsewhere, by its id."""

    id: Any
    name: ClassVar[str] = "an object stored apart"
