"""What a load returns about itself."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, Self

from ..params.checkpoint.load_plan import LoadPlan
from ..params.errors import some
from ..params.sizes import format_size


@dataclasses.dataclass(frozen=True, repr=False)
class LoadingInfo(Mapping[str, Any]):
    """The result of a load: paths of leaves, names of tensors. The first four are also a mapping,
    as Transformers returns it: `info["missing_keys"]`.

    Attributes:
        missing_keys: leaves that the checkpoint does not have; they were initialised.
        unexpected_keys: tensors of the checkpoint that the model has no place for.
        mismatched_keys: (path, shape in the checkpoint, shape in the model) of leaves that were
            initialised because `ignore_mismatched_sizes` was set.
        error_msgs: empty: an error is raised, not collected.
        plan: the `LoadPlan` that was carried out.
        revision: the commit that the files are of, where they come from the Hub.
        bytes_read: {file: bytes}, headers included.
        seconds: spent reading and placing the weights.
    """

    missing_keys: list[str]
    unexpected_keys: list[str]
    mismatched_keys: list[tuple[str, tuple[int, ...], tuple[int, ...]]]
    error_msgs: list[str]
    plan: LoadPlan
    revision: str | None
    bytes_read: dict[str, int]
    seconds: float

    @classmethod
    def of(cls, plan: LoadPlan, revision: str | None, seconds: float) -> Self:
        """Makes the result of a plan that was carried out."""
        match = plan.match
        return cls(
            missing_keys=list(match.missing),
            unexpected_keys=list(match.unexpected),
            mismatched_keys=[(bad.path, bad.found, bad.expected) for bad in match.mismatched],
            error_msgs=[],
            plan=plan,
            revision=revision,
            bytes_read={file.path: file.bytes_read for file in match.source.files},
            seconds=seconds,
        )

    def __getitem__(self, name: str) -> Any:
        if name not in self.__dict__:
            raise KeyError(f"{name}; there are {', '.join(self.__dict__)}")
        return self.__dict__[name]

    def __iter__(self) -> Iterator[str]:
        return iter(("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"))

    def __len__(self) -> int:
        return 4

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        """Returns one screen, however many leaves there are."""
        lines = [f"loading info of {self.plan.match.source.where}"]
        for name, value in self.items():
            named = [item if isinstance(item, str) else item[0] for item in value]
            lines.append(f"  {name}: {len(named)}" + (f" ({some(named)})" if named else ""))
        read = sum(self.bytes_read.values())
        of = f" of commit {self.revision}" if self.revision else ""
        files = len(self.bytes_read)
        lines.append(f"  {format_size(read)} read from {files} files{of} in {self.seconds:.2f} s")
        return "\n".join(lines)
