"""Reads plain data out of a pickle without unpickling it.

`pickle.load` runs whatever the file says. Here `pickletools.genops` splits the stream into opcodes, and only those
that build data are followed: numbers, text, bytes, lists, tuples, dicts, and numpy's own pattern for an array of
integers, whose bytes go to `np.frombuffer`. No name in the file is ever imported or called; a name outside the few
that mark that pattern, and every other opcode, is an error. Covers protocols 0 to 4.
"""

import pickletools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.datasets.dataset import DatasetError

IntegerArray = npt.NDArray[np.integer]


@dataclass(frozen=True)
class _Name:
    """A global that the stream mentions; it stays a name."""

    qualified: str


class _Mark:
    """Where a variable number of operands begins on the stack."""


@dataclass
class _ArrayBuilder:
    """Stands for `_reconstruct(...)` until BUILD gives it its bytes; shared through the memo like the object itself."""

    value: IntegerArray | None = None


@dataclass
class _TypeBuilder:
    code: str
    byte_order: str = "="

    def dtype(self) -> np.dtype[np.integer]:
        if self.byte_order not in ("<", ">", "|", "="):
            raise ValueError(f"an array of byte order {self.byte_order!r}")
        return np.dtype(f"{self.byte_order}{self.code}")


_RECONSTRUCT = {"numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct"}
_ARRAY = "numpy ndarray"
_DTYPE = "numpy dtype"
_ENCODE = "_codecs encode"  # how protocols 0 to 2 spell bytes
_BYTES = {"__builtin__ bytes", "builtins bytes"}  # and the empty ones
_NAMES = {*_RECONSTRUCT, *_BYTES, _ARRAY, _DTYPE, _ENCODE}
_INTEGER_TYPES = {"u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8"}

_TEXT = {"UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
_OLD_TEXT = {"STRING", "BINSTRING", "SHORT_BINSTRING"}  # Python 2's str, which is bytes
_SCALARS = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
}
_CONSTANTS: dict[str, object] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_EMPTY: dict[str, Callable[[], object]] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}


def _latin1(value: object) -> bytes:
    if isinstance(value, str):
        return value.encode("latin-1")
    if isinstance(value, bytes):
        return value
    raise ValueError("bytes expected")


def _ascii(value: object) -> str:
    return value.decode("ascii") if isinstance(value, bytes) else str(value)


class _Machine:
    """The stack and memo of one stream. Faults are ValueErrors; `read_plain_dict` adds the file's name."""

    def __init__(self, size_bytes: int) -> None:
        self.stack: list[object] = []
        self.memo: dict[int, object] = {}
        # Without this a short stream could encode one long memoised text over and over.
        self.encodable_bytes = size_bytes

    def pop(self) -> object:
        if not self.stack or isinstance(self.stack[-1], _Mark):
            raise ValueError("an opcode lacks its operand")
        return self.stack.pop()

    def top(self) -> object:
        value = self.pop()
        self.stack.append(value)
        return value

    def pop_to_mark(self) -> list[object]:
        items: list[object] = []
        while self.stack:
            value = self.stack.pop()
            if isinstance(value, _Mark):
                return items[::-1]
            items.append(value)
        raise ValueError("an opcode lacks its MARK")

    def name(self, qualified: str) -> _Name:
        if qualified not in _NAMES:
            raise ValueError(f"names {qualified.replace(' ', '.')!r}, which is not plain data")
        return _Name(qualified)

    def extend(self, items: list[object]) -> None:
        target = self.top()
        if not isinstance(target, list):
            raise ValueError("appends to what is not a list")
        target.extend(items)

    def update(self, items: list[object]) -> None:
        target = self.top()
        if not isinstance(target, dict) or len(items) % 2:
            raise ValueError("sets an item of what is not a dict")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, str | bytes | int):
                raise ValueError("a dict key is neither text nor number")
            target[key] = value

    def reduce(self, called: object, operands: object) -> object:
        if not isinstance(called, _Name) or not isinstance(operands, tuple):
            raise ValueError("calls what is not a known name")
        if called.qualified in _BYTES and operands == ():
            return b""
        if called.qualified in _RECONSTRUCT and operands and operands[0] == _Name(_ARRAY):
            return _ArrayBuilder()
        if called.qualified == _DTYPE and operands and isinstance(operands[0], str | bytes):
            code = _ascii(operands[0])
            if code not in _INTEGER_TYPES:
                raise ValueError(f"an array of type {code!r}; only integers are read")
            return _TypeBuilder(code)
        if called.qualified == _ENCODE and len(operands) == 2 and _ascii(operands[1]) in ("latin1", "latin-1"):
            encoded = _latin1(operands[0])
            self.encodable_bytes -= len(encoded)
            if self.encodable_bytes < 0:
                raise ValueError("encodes more bytes than the file has")
            return encoded
        raise ValueError(f"calls {called.qualified.replace(' ', '.')!r} in an unknown way")

    def build(self, target: object, state: object) -> None:
        if not isinstance(state, tuple):
            raise ValueError("BUILD without a state tuple")
        if isinstance(target, _TypeBuilder) and len(state) >= 8:
            if state[2:5] != (None, None, None):
                raise ValueError("an array type with fields")
            target.byte_order = _ascii(state[1])
        elif isinstance(target, _ArrayBuilder) and target.value is None and len(state) == 5:
            target.value = self.array(state)
        else:
            raise ValueError("BUILD of what is not an array")

    def array(self, state: tuple[object, ...]) -> IntegerArray:
        _, shape, kind, fortran_order, content = state
        if not isinstance(shape, tuple) or not isinstance(kind, _TypeBuilder):
            raise ValueError("an array without shape or type")
        sides = [side for side in shape if isinstance(side, int) and 0 <= side < 2**40]
        if len(sides) != len(shape) or len(sides) > 8:
            raise ValueError("an array with an impossible shape")
        flat: IntegerArray = np.frombuffer(_latin1(content), dtype=kind.dtype())
        return flat.reshape(sides, order="F" if fortran_order else "C")

    def step(self, opcode: str, argument: object) -> None:
        if opcode in ("PROTO", "FRAME"):
            return
        if opcode in _TEXT or opcode in _SCALARS:
            self.stack.append(argument)
        elif opcode in _OLD_TEXT:
            self.stack.append(_latin1(argument))
        elif opcode in _CONSTANTS:
            self.stack.append(_CONSTANTS[opcode])
        elif opcode in _EMPTY:
            self.stack.append(_EMPTY[opcode]())
        elif opcode in _TUPLES:
            self.stack.append(tuple([self.pop() for _ in range(_TUPLES[opcode])][::-1]))
        elif opcode == "MARK":
            self.stack.append(_Mark())
        elif opcode == "TUPLE":
            self.stack.append(tuple(self.pop_to_mark()))
        elif opcode == "LIST":
            self.stack.append(self.pop_to_mark())
        elif opcode == "DICT":
            items = self.pop_to_mark()
            self.stack.append({})
            self.update(items)
        elif opcode == "APPEND":
            value = self.pop()
            self.extend([value])
        elif opcode == "APPENDS":
            self.extend(self.pop_to_mark())
        elif opcode == "SETITEM":
            value, key = self.pop(), self.pop()
            self.update([key, value])
        elif opcode == "SETITEMS":
            self.update(self.pop_to_mark())
        elif opcode in ("PUT", "BINPUT", "LONG_BINPUT"):
            if not isinstance(argument, int):
                raise ValueError("a memo slot without number")
            self.memo[argument] = self.top()
        elif opcode == "MEMOIZE":
            self.memo[len(self.memo)] = self.top()
        elif opcode in ("GET", "BINGET", "LONG_BINGET"):
            if not isinstance(argument, int) or argument not in self.memo:
                raise ValueError("recalls an empty memo slot")
            self.stack.append(self.memo[argument])
        elif opcode == "GLOBAL":
            self.stack.append(self.name(str(argument)))
        elif opcode == "STACK_GLOBAL":
            attribute, module = self.pop(), self.pop()
            self.stack.append(self.name(f"{module} {attribute}"))
        elif opcode == "REDUCE":
            operands, called = self.pop(), self.pop()
            self.stack.append(self.reduce(called, operands))
        elif opcode == "BUILD":
            state = self.pop()
            self.build(self.top(), state)
        else:
            raise ValueError("is not an opcode of plain data")


def read_plain_dict(content: bytes, source: str) -> dict[str, object]:
    """The dict that a pickle of plain data holds, by text key; array values are read-only numpy arrays.

    Python 2's `str` values come as bytes. Values are as nested as the file makes them: check before use.
    Raises DatasetError naming `source` and the opcode when the file holds anything else or is damaged.
    """
    machine = _Machine(len(content))
    at = "start"
    try:
        for opcode, argument, _ in pickletools.genops(content):
            if opcode.name == "STOP":
                break
            at = opcode.name
            machine.step(opcode.name, argument)
        at = "STOP"
        result = machine.pop()
        if not isinstance(result, dict):
            raise ValueError("the pickle is not a dict")
        plain = {_ascii(key): value for key, value in result.items()}
    except (ValueError, OverflowError, RecursionError) as error:
        raise DatasetError(f"{source}: refused at pickle opcode {at}: {error}") from error
    return {key: value.value if isinstance(value, _ArrayBuilder) else value for key, value in plain.items()}
