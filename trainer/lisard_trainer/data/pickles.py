"""Reads the python-pickle batches of CIFAR without unpickling: a small machine that knows arrays, text, numbers, lists.

A pickle is a program. This one imports nothing, calls nothing and builds no object of any other kind; an instruction or
a name outside the lists below ends the reading with an error. Formats: Python's pickletools, NumPy's __reduce__.
"""

from __future__ import annotations

import enum
import math
import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lisard_ros.errors import DataError, one_line

MAX_BYTES = 1 << 29  # CIFAR-100's training file has 155 MB
MAX_GROWTH = 4  # bytes that array contents may take, per byte of the file
MAX_DIMENSIONS = 4


class _Name(enum.Enum):
    """What a pickle may name; each is a mark on the stack, never the function itself."""

    RECONSTRUCT = enum.auto()
    FROM_BUFFER = enum.auto()
    ARRAY = enum.auto()
    TYPE = enum.auto()
    ENCODE = enum.auto()


_NAMES = {
    "numpy.core.multiarray _reconstruct": _Name.RECONSTRUCT,
    "numpy._core.multiarray _reconstruct": _Name.RECONSTRUCT,
    "numpy.core.numeric _frombuffer": _Name.FROM_BUFFER,
    "numpy._core.numeric _frombuffer": _Name.FROM_BUFFER,
    "numpy ndarray": _Name.ARRAY,
    "numpy dtype": _Name.TYPE,
    "_codecs encode": _Name.ENCODE,
}
_TYPES = {kind: np.dtype(kind) for kind in ("b1", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8")}


class _RefusedError(Exception):
    """The pickle holds something else than data; the text says what."""


@dataclass
class _Type:
    """A dtype while it is being described."""

    dtype: np.dtype[Any]


@dataclass
class _Array:
    """An array while it is being described."""

    value: np.ndarray | None = None


def read(path: Path) -> dict[str, Any]:
    """The dictionary that a pickle file holds: text keys; arrays, numbers, text, bytes and lists as values.

    DataError names the file and what in it isn't data, or where it ends too early.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise _RefusedError(f"{size} bytes")
        content = _Machine(MAX_GROWTH * size).run(path.read_bytes())
        if not isinstance(content, dict):
            raise _RefusedError(f"a pickled {type(content).__name__}")
        return {_text(key): _finished(item) for key, item in content.items()}
    except (_RefusedError, ValueError, OSError) as error:
        raise DataError(
            f"pickle {path}",
            found=one_line(error),
            expected="a dictionary of arrays, numbers, text and lists, and no code",
            cure="take the file from its publisher again",
        ) from error


def _text(key: object) -> str:
    if isinstance(key, bytes):
        return key.decode("latin-1")
    if not isinstance(key, str):
        raise _RefusedError(f"a key of type {type(key).__name__}")
    return key


def _finished(item: object) -> object:
    if isinstance(item, _Name | _Type):
        raise _RefusedError("a description of an array without the array")
    if not isinstance(item, _Array):
        return item
    if item.value is None:
        raise _RefusedError("an array without content")
    return item.value


@dataclass
class _Machine:
    """The stack, the memo, and how many bytes the array contents may still take."""

    budget: int
    stack: list[Any] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)

    def run(self, data: bytes) -> object:
        """What is left on the stack at the end."""
        for instruction, argument, _ in pickletools.genops(data):
            work = _WORK.get(instruction.name)
            if work is None:
                raise _RefusedError(f"the instruction {instruction.name}")
            work(self, argument)
        return self.pop()

    def push(self, value: object) -> None:
        """Put on the stack."""
        self.stack.append(value)

    def pop(self) -> Any:
        """Take from the stack, not below the last mark."""
        self.top()
        return self.stack.pop()

    def top(self) -> Any:
        """Look at the stack, not below the last mark."""
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise _RefusedError("an instruction without its operand")
        return self.stack[-1]

    def pop_to_mark(self) -> list[Any]:
        """Take all that lies above the last mark."""
        if not self.marks:
            raise _RefusedError("an instruction without its mark")
        start = self.marks.pop()
        taken = self.stack[start:]
        del self.stack[start:]
        return taken

    def pop_as(self, kind: type) -> Any:
        """Take from the stack what must be of this type."""
        value = self.pop()
        if type(value) is not kind:
            raise _RefusedError(f"a {type(value).__name__} in place of a {kind.__name__}")
        return value

    def spend(self, content: bytes) -> bytes:
        """The content of an array or text, if it is within the budget."""
        self.budget -= len(content)
        if self.budget < 0:
            raise _RefusedError("more content than the file can hold")
        return content


def _push_tuple(machine: _Machine, length: int) -> None:
    items = [machine.pop() for _ in range(length)]
    machine.push(tuple(reversed(items)))


def _extend(machine: _Machine, items: list[Any]) -> None:
    target = machine.top()
    if type(target) is not list:
        raise _RefusedError(f"list items for a {type(target).__name__}")
    target.extend(items)


def _update(machine: _Machine, items: list[Any]) -> None:
    target = machine.top()
    if type(target) is not dict or len(items) % 2:
        raise _RefusedError(f"key and value pairs for a {type(target).__name__}")
    for key, value in zip(items[::2], items[1::2], strict=True):
        target[_text(key)] = value


def _recall(machine: _Machine, position: object) -> None:
    if not isinstance(position, int) or position not in machine.memo:
        raise _RefusedError("a reference to nothing")
    machine.push(machine.memo[position])


def _remember(machine: _Machine, position: int | None) -> None:
    machine.memo[len(machine.memo) if position is None else position] = machine.top()


def _dictionary(machine: _Machine) -> None:
    items = machine.pop_to_mark()
    machine.push({})
    _update(machine, items)


def _name(machine: _Machine, name: object) -> None:
    known = _NAMES.get(name) if isinstance(name, str) else None
    if known is None:
        raise _RefusedError(f"the name {name}")
    machine.push(known)


def _name_from_stack(machine: _Machine) -> None:
    name, module = machine.pop_as(str), machine.pop_as(str)
    _name(machine, f"{module} {name}")


def _call(machine: _Machine) -> None:
    arguments, name = machine.pop_as(tuple), machine.pop()
    if name is _Name.RECONSTRUCT and arguments[:1] == (_Name.ARRAY,):
        machine.push(_Array())
    elif name is _Name.TYPE:
        machine.push(_new_type(arguments))
    elif name is _Name.ENCODE:
        machine.push(_encoded(machine, arguments))
    elif name is _Name.FROM_BUFFER:
        machine.push(_from_buffer(machine, arguments))
    else:
        raise _RefusedError("a call")


def _new_type(arguments: tuple[Any, ...]) -> _Type:
    kind = _as_text(arguments[0]) if arguments else ""
    if kind not in _TYPES:
        raise _RefusedError("an array that doesn't hold plain numbers")
    return _Type(_TYPES[kind])


def _as_text(value: object) -> str:
    return _text(value) if isinstance(value, str | bytes) else ""


def _encoded(machine: _Machine, arguments: tuple[Any, ...]) -> bytes:
    """What Python 3 writes for bytes in the protocols of Python 2."""
    if len(arguments) != 2 or arguments[1] != "latin1" or not isinstance(arguments[0], str):
        raise _RefusedError("a call of encode that does not make bytes")
    return machine.spend(arguments[0].encode("latin-1"))


def _from_buffer(machine: _Machine, arguments: tuple[Any, ...]) -> _Array:
    """What NumPy writes in protocol 5: content, type, shape, order."""
    if len(arguments) != 4 or not isinstance(arguments[1], _Type) or arguments[3] not in ("C", "F"):
        raise _RefusedError("an array in an unknown form")
    content, kind, shape, order = arguments
    return _Array(_array(machine, content, kind, shape, order))


def _build(machine: _Machine) -> None:
    state, target = machine.pop_as(tuple), machine.top()
    if isinstance(target, _Type) and len(state) >= 2 and _as_text(state[1]) in ("<", ">", "|", "="):
        target.dtype = target.dtype.newbyteorder(_as_text(state[1]))  # type: ignore[arg-type]
    elif isinstance(target, _Array) and len(state) == 5 and isinstance(state[2], _Type):
        target.value = _array(machine, state[4], state[2], state[1], "F" if state[3] else "C")
    else:
        raise _RefusedError(f"a state for a {type(target).__name__}")


def _array(machine: _Machine, content: object, kind: _Type, shape: object, order: Any) -> np.ndarray:
    """An array over the content, which a pickle of Python 2 gives as text of one character a byte."""
    raw = content.encode("latin-1") if isinstance(content, str) else content
    if not isinstance(raw, bytes):
        raise _RefusedError(f"an array with a {type(content).__name__} for its content")
    sizes = shape if isinstance(shape, tuple) else ()
    if not sizes or len(sizes) > MAX_DIMENSIONS or any(type(n) is not int or n < 0 for n in sizes):
        raise _RefusedError("an array of impossible shape")
    if math.prod(sizes) * kind.dtype.itemsize != len(machine.spend(raw)):
        raise _RefusedError(f"an array of shape {sizes} with {len(raw)} bytes")
    return np.frombuffer(raw, kind.dtype).reshape(sizes, order=order)


def _nothing(machine: _Machine, argument: object) -> None:
    """For instructions that say how the file is written."""


_LITERALS = [
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING",
    "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE",
    "BINUNICODE8",
]  # fmt: skip
_Work = Callable[[_Machine, Any], object]
_WORK: dict[str, _Work] = {
    **dict.fromkeys(_LITERALS, _Machine.push),
    **dict.fromkeys(("PROTO", "FRAME", "STOP"), _nothing),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), _remember),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _recall),
    "BYTEARRAY8": lambda m, content: m.push(bytes(content)),
    "NONE": lambda m, _: m.push(None),
    "NEWTRUE": lambda m, _: m.push(True),
    "NEWFALSE": lambda m, _: m.push(False),
    "MARK": lambda m, _: m.marks.append(len(m.stack)),
    "EMPTY_LIST": lambda m, _: m.push([]),
    "LIST": lambda m, _: m.push(m.pop_to_mark()),
    "APPEND": lambda m, _: _extend(m, [m.pop()]),
    "APPENDS": lambda m, _: _extend(m, m.pop_to_mark()),
    "EMPTY_TUPLE": lambda m, _: m.push(()),
    "TUPLE": lambda m, _: m.push(tuple(m.pop_to_mark())),
    "TUPLE1": lambda m, _: _push_tuple(m, 1),
    "TUPLE2": lambda m, _: _push_tuple(m, 2),
    "TUPLE3": lambda m, _: _push_tuple(m, 3),
    "EMPTY_DICT": lambda m, _: m.push({}),
    "DICT": lambda m, _: _dictionary(m),
    "SETITEM": lambda m, _: _update(m, [m.pop(), m.pop()][::-1]),
    "SETITEMS": lambda m, _: _update(m, m.pop_to_mark()),
    "GLOBAL": _name,
    "STACK_GLOBAL": lambda m, _: _name_from_stack(m),
    "REDUCE": lambda m, _: _call(m),
    "BUILD": lambda m, _: _build(m),
}
