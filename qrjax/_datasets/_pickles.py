"""Pickles of lists of integers in an object array of NumPy, read without calling anything that they name.

A pickle is a program, and `pickle` runs it: it imports what the program names and calls it with the program's
arguments. Here a name is a token: of an array's construction three forms are known and none is carried out, so that
a pickle can make lists, tuples, integers and strings and nothing else. What it may take of memory is bounded by its
length and by `STEPS`.
"""

from __future__ import annotations

import enum
import pickle  # for the names of its opcodes alone
from collections.abc import Callable
from typing import Any

# Of opcodes other than those of short integers. A list takes about six, a thousand of its integers two; none takes
# more than some 200 bytes of memory.
STEPS = 4_000_000
PROTOCOLS = 5
ONE_BYTE, TWO_BYTES, FOUR_BYTES = pickle.BININT1[0], pickle.BININT2[0], pickle.BININT[0]
INTEGER_BYTES = 8


class Refused(ValueError):
    """A pickle that is damaged, or that wants to make something else."""


class Token(enum.Enum):
    RECONSTRUCT = "_reconstruct"
    NDARRAY = "ndarray"
    DTYPE = "dtype"
    ENCODE = "encode"
    OBJECT = "the data type of Python objects"


NAMES = {
    ("numpy.core.multiarray", "_reconstruct"): Token.RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): Token.RECONSTRUCT,
    ("numpy", "ndarray"): Token.NDARRAY,
    ("numpy", "dtype"): Token.DTYPE,
    ("_codecs", "encode"): Token.ENCODE,
}


class ObjectArray:
    """One dimension of Python objects."""

    def __init__(self) -> None:
        self.items: list[Any] | None = None


def lists(data: bytes, count: int) -> list[list[int]]:
    """The `count` lists of integers, each in [-2**63, 2**63), of a pickled object array of one dimension.

    Raises:
      Refused: if that is not what the pickle is.
    """
    try:
        found = _Machine(data).run()
    except IndexError:
        raise Refused("a pickle that ends early or takes more than it has put") from None
    rows = found.items if isinstance(found, ObjectArray) else None
    if rows is None or len(rows) != count:
        raise Refused("a pickle of something other than the array that its header announces")
    # An element takes a byte of the pickle or more, unless one list is put in many places.
    left = len(data)
    for index, row in enumerate(rows):
        if type(row) is not list or not set(map(type, row)) <= {int}:
            raise Refused(f"something other than a list of integers at index {index}")
        left -= len(row)
        if left < 0:
            raise Refused("lists that the pickle repeats to more than its own length")
    return rows


class _Machine:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        for _ in range(STEPS):
            self.short_integers()
            code = self.take(1)
            if code == pickle.STOP:
                if self.at < len(self.data):
                    raise Refused("bytes after the end of the pickle")
                return self.stack.pop()
            if code not in OPCODES:
                raise Refused(f"a pickle with the opcode {code!r}, which lists of integers do not need")
            OPCODES[code](self)
        raise Refused(f"a pickle of more than {STEPS:,} steps")

    def short_integers(self) -> None:
        """A run of what nearly all of the pickle is: integers of one or two bytes unsigned, or four signed."""
        data, at, push = self.data, self.at, self.stack.append
        while True:
            code = data[at]
            if code == ONE_BYTE:
                push(data[at + 1])
                at += 2
            elif code == TWO_BYTES:
                push(data[at + 1] | data[at + 2] << 8)
                at += 3
            elif code == FOUR_BYTES:
                push(int.from_bytes((data[at + 1], data[at + 2], data[at + 3], data[at + 4]), "little", signed=True))
                at += 5
            else:
                self.at = at
                return

    def take(self, size: int) -> bytes:
        self.at += size
        if self.at > len(self.data):
            raise IndexError
        return self.data[self.at - size : self.at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def line(self) -> str:
        end = self.data.find(b"\n", self.at)
        if end < 0:
            raise IndexError
        return _text(self.take(end + 1 - self.at)[:-1])

    def long(self) -> None:
        size = self.number(1)
        if size > INTEGER_BYTES:
            raise Refused(f"an integer of {size} bytes")
        self.stack.append(int.from_bytes(self.take(size), "little", signed=True))

    def since_mark(self) -> list[Any]:
        mark = self.marks.pop()
        items = self.stack[mark:]
        del self.stack[mark:]
        return items

    def tuple_of(self, size: int) -> None:
        if len(self.stack) < size:
            raise IndexError
        self.stack[len(self.stack) - size :] = [tuple(self.stack[len(self.stack) - size :])]

    def append(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise Refused("a pickle that appends to something other than a list")
        self.stack[-1].extend(items)

    def get(self, index: int) -> None:
        if index not in self.memo:
            raise Refused(f"a pickle that recalls what it did not keep, number {index}")
        self.stack.append(self.memo[index])

    def protocol(self) -> None:
        if (found := self.number(1)) > PROTOCOLS:
            raise Refused(f"a pickle of the protocol {found}")

    def name(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise Refused("a pickle that asks for what is no name")
        if (module, name) not in NAMES:
            full = f"{module}.{name}"[:100]
            raise Refused(f"a pickle that asks for {full!r}, which lists of integers do not need")
        self.stack.append(NAMES[module, name])

    def stack_name(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.name(module, name)

    def reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if function is Token.ENCODE and arguments == ("b", "latin1"):
            self.stack.append("b")
        elif function is Token.RECONSTRUCT and arguments == (Token.NDARRAY, (0,), "b"):
            self.stack.append(ObjectArray())
        elif function is Token.DTYPE and arguments in (("O8", 0, 1), ("O4", 0, 1), ("O", 0, 1)):
            self.stack.append(Token.OBJECT)
        else:
            called = function.value if isinstance(function, Token) else type(function).__name__
            raise Refused(f"a pickle that calls {called!r} otherwise than for an array of Python objects")

    def build(self) -> None:
        state, target = self.stack.pop(), self.stack.pop()
        self.stack.append(target)
        if target is Token.OBJECT and type(state) is tuple and state[:5] == (3, "|", None, None, None):
            return
        if isinstance(target, ObjectArray) and target.items is None and type(state) is tuple and len(state) == 5:
            *head, items = state
            if type(items) is list and head == [1, (len(items),), Token.OBJECT, False]:
                target.items = items
                return
        raise Refused("a pickle that sets the state of something other than an object array of one dimension")


def _text(data: bytes) -> str:
    return data.decode("latin1")


# Strings are of Python 2 or 3, or bytes: none of those that are wanted has a letter where they differ.
OPCODES: dict[bytes, Callable[[_Machine], object]] = {
    pickle.PROTO: _Machine.protocol,
    pickle.FRAME: lambda m: m.take(8),
    pickle.MARK: lambda m: m.marks.append(len(m.stack)),
    pickle.NONE: lambda m: m.stack.append(None),
    pickle.NEWTRUE: lambda m: m.stack.append(True),
    pickle.NEWFALSE: lambda m: m.stack.append(False),
    pickle.LONG1: _Machine.long,
    pickle.SHORT_BINSTRING: lambda m: m.stack.append(_text(m.take(m.number(1)))),
    pickle.SHORT_BINBYTES: lambda m: m.stack.append(_text(m.take(m.number(1)))),
    pickle.SHORT_BINUNICODE: lambda m: m.stack.append(_text(m.take(m.number(1)))),
    pickle.BINUNICODE: lambda m: m.stack.append(_text(m.take(m.number(4)))),
    pickle.EMPTY_TUPLE: lambda m: m.stack.append(()),
    pickle.TUPLE1: lambda m: m.tuple_of(1),
    pickle.TUPLE2: lambda m: m.tuple_of(2),
    pickle.TUPLE3: lambda m: m.tuple_of(3),
    pickle.TUPLE: lambda m: m.stack.append(tuple(m.since_mark())),
    pickle.EMPTY_LIST: lambda m: m.stack.append([]),
    pickle.APPEND: lambda m: m.append([m.stack.pop()]),
    pickle.APPENDS: lambda m: m.append(m.since_mark()),
    pickle.BINPUT: lambda m: m.memo.__setitem__(m.number(1), m.stack[-1]),
    pickle.LONG_BINPUT: lambda m: m.memo.__setitem__(m.number(4), m.stack[-1]),
    pickle.MEMOIZE: lambda m: m.memo.__setitem__(len(m.memo), m.stack[-1]),
    pickle.BINGET: lambda m: m.get(m.number(1)),
    pickle.LONG_BINGET: lambda m: m.get(m.number(4)),
    pickle.GLOBAL: lambda m: m.name(m.line(), m.line()),
    pickle.STACK_GLOBAL: _Machine.stack_name,
    pickle.REDUCE: _Machine.reduce,
    pickle.BUILD: _Machine.build,
}
