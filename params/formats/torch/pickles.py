"""Pickles: evaluated to inert terms by a machine of our own, which knows no functions to call.

The opcodes are those that Python's pickler writes, protocols 1 to 5, as `pickletools` of the
standard library documents them. Numbers, short texts, tuples, lists and dicts are themselves;
other bytes are stepped over.
"""

import re
import struct
from collections.abc import Iterable
from typing import TypeVar

from ...errors import CheckpointError, quoted
from ..files import Cursor
from .terms import Call, Global, Persistent, Term

T = TypeVar("T")

MAX_OPCODES = 1_000_000
LONGEST_TEXT = 4096
_LONGEST_LINE = 512
_LONGEST_NAME = 256
_STOP = b"."
_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", re.ASCII)
_DECIMAL = re.compile(rb"(-?\d{1,40})L?")


class Machine:
    """Evaluates the pickles that follow one another at a cursor.

    Attributes:
        globals: the names of all globals met.
        persistent: all persistent ids met.
        odd_key: whether a dict had a key that is not a short text; such entries are dropped.
    """

    def __init__(self, cursor: Cursor):
        self.cursor = cursor
        self.globals: set[str] = set()
        self.persistent: list[Persistent] = []
        self.odd_key = False
        self._count = 0

    def load(self) -> Term:
        """Evaluates the next pickle.

        Raises:
            CheckpointError: not a pickle, or one with more than data in it.
        """
        self._stack: list[Term] = []
        self._below: list[list[Term]] = []  # one stack for each open mark
        self._memo: dict[int, Term] = {}
        try:
            while (code := self.cursor.take(1)) != _STOP:
                self._count += 1
                if code not in _OPERATIONS or self._count > MAX_OPCODES:
                    raise self._error(f"opcode {code!r}, or more than {MAX_OPCODES} opcodes")
                operate, argument = _OPERATIONS[code]
                operate(self, argument)
            value = self._stack.pop()
        except IndexError:
            raise self._error("an opcode that takes more than the stack holds") from None
        if self._stack or self._below:
            raise self._error("the pickle ends with more than one value")
        return value

    def _error(self, got: str) -> CheckpointError:
        location = f"{self.cursor.file.path}: byte {self.cursor.position}"
        return CheckpointError(f"{location}: not a pickle of tensors: {got}")

    def _size(self, width: int) -> int:
        return int.from_bytes(self.cursor.take(width), "little")

    # Each operation takes the machine and the argument that stands beside it in the table.

    def _protocol(self, _) -> None:
        if (protocol := self._size(1)) > 5:
            raise self._error(f"protocol {protocol}, known: 1 to 5")

    def _frame(self, width: int) -> None:
        if (length := self._size(width)) > self.cursor.stop - self.cursor.position:
            raise self._error(f"a frame of {length} bytes in a file that is cut short")

    def _push(self, value: object) -> None:
        self._stack.append(value)

    def _new(self, kind: type) -> None:
        self._stack.append(kind())

    def _integer(self, width: int) -> None:
        self._stack.append(int.from_bytes(self.cursor.take(width), "little", signed=width == 4))

    def _long(self, width: int) -> None:
        data = self.cursor.take(self._size(width))
        self._stack.append(int.from_bytes(data, "little", signed=True))

    def _decimal(self, booleans: dict[bytes, bool]) -> None:
        line = self.cursor.line(_LONGEST_LINE)
        if line in booleans:
            self._stack.append(booleans[line])
        elif found := _DECIMAL.fullmatch(line):
            self._stack.append(int(found[1]))
        else:
            raise self._error("a number that is not at most 40 digits")

    def _float(self, _) -> None:
        self._stack.append(struct.unpack(">d", self.cursor.take(8))[0])

    def _text(self, width: int) -> None:
        length = self._size(width)
        if length > LONGEST_TEXT:
            self._stepped_over(length)
            return
        try:
            self._stack.append(self.cursor.take(length).decode())
        except UnicodeDecodeError:
            raise self._error("a text that is not UTF-8") from None

    def _bytes(self, width: int) -> None:
        self._stepped_over(self._size(width))

    def _stepped_over(self, length: int) -> None:
        self.cursor.skip(length)
        self._stack.append(Call(f"{length} bytes", ()))

    def _put(self, width: int) -> None:
        index = self._size(width) if width else len(self._memo)
        if index > self._count:
            raise self._error(f"memo {index} after {self._count} opcodes")
        self._memo[index] = self._stack[-1]

    def _get(self, width: int) -> None:
        if (index := self._size(width)) not in self._memo:
            raise self._error(f"memo {index}, which nothing was put into")
        self._stack.append(self._memo[index])

    def _mark(self, _) -> None:
        self._below.append(self._stack)
        self._stack = []

    def _since_mark(self) -> list[Term]:
        items, self._stack = self._stack, self._below.pop()
        return items

    def _tuple(self, count: int | None) -> None:
        if count is None:
            items = self._since_mark()
        else:
            items = [self._stack.pop() for _ in range(count)][::-1]
        self._stack.append(tuple(items))

    def _append(self, many: bool) -> None:
        items = self._since_mark() if many else [self._stack.pop()]
        if (target := self._target(list, "items")) is not None:
            target.extend(items)

    def _target(self, kind: type[T], what: str) -> T | None:
        """Returns the container that something is for; None for an object of another kind, which
        is marked as built."""
        target = self._stack[-1]
        if isinstance(target, Call):
            target.built = True
            return None
        if not isinstance(target, kind):
            raise self._error(f"{what} for a {type(target).__name__}")
        return target

    def _set(self, many: bool) -> None:
        items = self._since_mark() if many else [self._stack.pop(), self._stack.pop()][::-1]
        if (target := self._target(dict, "keys")) is not None:
            if len(items) % 2:
                raise self._error("a key without a value")
            self._fill(target, zip(items[::2], items[1::2], strict=True))

    def _fill(self, target: dict[str, Term], pairs: Iterable[tuple[object, object]]) -> None:
        for key, value in pairs:
            if type(key) is not str:  # also because the hash of a nested tuple takes forever
                self.odd_key = True
            elif key in target:
                raise self._error(f"key {quoted(key)} appears twice")
            else:
                target[key] = value

    def _global(self, _) -> None:
        module, name = self.cursor.line(_LONGEST_LINE), self.cursor.line(_LONGEST_LINE)
        self._push_global(module.decode("latin1"), name.decode("latin1"))

    def _stack_global(self, _) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        self._push_global(module, name)

    def _push_global(self, module: object, name: object) -> None:
        if type(module) is not str or type(name) is not str:
            raise self._error("a global whose name is not a text")
        full = f"{module}.{name}"
        if len(full) > _LONGEST_NAME or not _NAME.fullmatch(full):
            raise self._error(f"global {quoted(full)}, which cannot be a name")
        self.globals.add(full)
        self._stack.append(Global(full))

    def _call(self, suffix: str) -> None:
        args, target = self._stack.pop(), self._stack.pop()
        if not isinstance(target, Global | Call | Persistent) or not isinstance(args, tuple):
            raise self._error("a call of something that is no global")
        if isinstance(target, Global) and target.name == "collections.OrderedDict" and not suffix:
            self._stack.append(self._ordered_dict(args))
        else:
            name = target.name if isinstance(target, Global) else target.name.removesuffix("()")
            suffix = suffix if isinstance(target, Global) else "()"
            self._stack.append(Call(name + suffix, args))

    def _ordered_dict(self, args: tuple) -> dict[str, Term]:
        """Makes a dict of the list of pairs that Python 2 gives."""
        result: dict[str, Term] = {}
        match args:
            case ():
                pass
            case (list(pairs),) if all(isinstance(p, list) and len(p) == 2 for p in pairs):
                self._count += len(pairs)  # the same list may be met again and again
                self._fill(result, pairs)
            case _:
                raise self._error("an OrderedDict of something that is no list of pairs")
        return result

    def _call_with_keywords(self, _) -> None:
        self._stack.pop()
        self._call(".__new__")

    def _build(self, _) -> None:
        state = self._stack.pop()
        is_plain = state is None or (isinstance(state, dict) and state.keys() <= {"_metadata"})
        if self._target(dict, "a state") is not None and not is_plain:
            raise self._error("a state other than _metadata for a dict")

    def _persistent(self, _) -> None:
        term = Persistent(self._stack.pop())
        self.persistent.append(term)
        self._stack.append(term)

    def _set_of(self, name: str) -> None:
        self.globals.add(name)
        self._stack.append(Call(name, ()))

    def _frozen_set(self, name: str) -> None:
        self._since_mark()
        self._set_of(name)


_OPERATIONS = {
    b"\x80": (Machine._protocol, None),
    b"\x95": (Machine._frame, 8),
    b"N": (Machine._push, None),
    b"\x88": (Machine._push, True),
    b"\x89": (Machine._push, False),
    b")": (Machine._push, ()),
    b"]": (Machine._new, list),
    b"}": (Machine._new, dict),
    b"K": (Machine._integer, 1),
    b"M": (Machine._integer, 2),
    b"J": (Machine._integer, 4),
    b"\x8a": (Machine._long, 1),
    b"I": (Machine._decimal, {b"00": False, b"01": True}),
    b"L": (Machine._decimal, {}),
    b"G": (Machine._float, None),
    b"U": (Machine._text, 1),
    b"T": (Machine._text, 4),
    b"\x8c": (Machine._text, 1),
    b"X": (Machine._text, 4),
    b"\x8d": (Machine._text, 8),
    b"C": (Machine._bytes, 1),
    b"B": (Machine._bytes, 4),
    b"\x8e": (Machine._bytes, 8),
    b"\x96": (Machine._bytes, 8),
    b"q": (Machine._put, 1),
    b"r": (Machine._put, 4),
    b"\x94": (Machine._put, 0),
    b"h": (Machine._get, 1),
    b"j": (Machine._get, 4),
    b"(": (Machine._mark, None),
    b"\x85": (Machine._tuple, 1),
    b"\x86": (Machine._tuple, 2),
    b"\x87": (Machine._tuple, 3),
    b"t": (Machine._tuple, None),
    b"a": (Machine._append, False),
    b"e": (Machine._append, True),
    b"\x90": (Machine._append, True),
    b"s": (Machine._set, False),
    b"u": (Machine._set, True),
    b"\x8f": (Machine._set_of, "builtins.set"),
    b"\x91": (Machine._frozen_set, "builtins.frozenset"),
    b"c": (Machine._global, None),
    b"\x93": (Machine._stack_global, None),
    b"R": (Machine._call, ""),
    b"\x81": (Machine._call, ".__new__"),
    b"\x92": (Machine._call_with_keywords, None),
    b"b": (Machine._build, None),
    b"Q": (Machine._persistent, None),
}
