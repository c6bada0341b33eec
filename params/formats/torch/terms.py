"""Terms: inert stand-ins for the objects of a pickle that are not plain data."""

import dataclasses
from typing import ClassVar, TypeAlias

Term: TypeAlias = object
"""What a pickle may hold: numbers, texts, containers of terms, and the classes below."""


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
    args: Term
    built: bool = False


@dataclasses.dataclass(eq=False, repr=False, slots=True)
class Persistent:
    """What the pickler wrote elsewhere, by its id."""

    id: Term
    name: ClassVar[str] = "an object stored apart"
