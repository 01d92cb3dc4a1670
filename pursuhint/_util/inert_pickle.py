"""Read a pickle as data: nothing that it names is imported, no function is called.

A pickle is a program for a stack machine whose instructions can call any function by name. The machine here
executes the same instructions, but where `pickle` would import a name, create an object or call a function,
it stores a record of that: a `Name` or a `Call`. What such a record stands for is decided by the reader of
the result, who builds numbers and tensors from checked values.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, BinaryIO, NamedTuple, cast

__all__ = ["Call", "DamagedPickle", "Name", "Persistent", "RefusedPickle", "read_pickle"]

LARGEST_PROGRAM = 5_000_000  # instructions; the checkpoint of a network with 10,000 tensors takes 10^6
LARGEST_INTEGER = 256  # bits

_PLAIN = (str, bytes, int, float, bool, type(None))


class Name(NamedTuple):
    """A global that the pickle refers to, as ``module.attribute``."""

    text: str


class Persistent(NamedTuple):
    """An object stored outside of the pickle, such as the storage of a tensor."""

    identity: Any


@dataclass(eq=False, slots=True, weakref_slot=True)
class Call:
    """A call or instantiation that `pickle` would have made.

    Attributes:
        name: of the function or class.
        arguments: positional ones.
        state: argument of the ``__setstate__`` that would have followed, or None.
        items: of a mapping such as an ``OrderedDict``, which is filled after it is created.
        elements: of a sequence that is filled after it is created.
    """

    name: str
    arguments: tuple[Any, ...]
    state: Any = None
    items: dict[Any, Any] = field(default_factory=dict)
    elements: list[Any] = field(default_factory=list)


class DamagedPickle(ValueError):
    """The bytes are not a complete pickle, or exceed a limit."""


class RefusedPickle(ValueError):
    """The pickle names a global that the reader does not accept. The argument is the name."""


def read_pickle(file: BinaryIO, *, size: int, accepts: Callable[[str], bool], text: str | None = None) -> Any:
    """Execute one pickle and return what it leaves on the stack.

    Time and memory are proportional to the bytes read: lengths are checked against ``size`` before
    anything is allocated, the memo is a dictionary (the instruction for memo slot 2^31 makes the C
    implementation allocate that many pointers), and keys are plain values, since hashing nested tuples
    recurses without a limit.

    Args:
        file: positioned at the pickle; left behind its last instruction.
        size: of the file in bytes.
        accepts: tells whether a global of this name, ``module.attribute``, may occur.
        text: encoding of the strings of Python 2, which are kept as bytes if it is None or does not fit.

    Returns:
        Plain Python values, `Name`, `Persistent` and `Call`. Sets become lists; entries of a mapping whose
        key is not a plain value or a tuple of plain values are left out.

    Raises:
        RefusedPickle: a global is not accepted.
        DamagedPickle: truncated, malformed, or more than `LARGEST_PROGRAM` instructions.
    """
    machine = _Machine(accepts, text)
    try:
        for count, (opcode, argument, _) in enumerate(
            pickletools.genops(cast(BinaryIO, _Clipped(file, size)))
        ):
            if count >= LARGEST_PROGRAM:
                raise DamagedPickle(f"more than {LARGEST_PROGRAM:,} instructions")
            machine.execute(opcode.name, argument)
        return machine.stack.pop()
    except (DamagedPickle, RefusedPickle):
        raise
    except Exception as error:  # a malformed program underflows the stack, misses memo slots, ...
        raise DamagedPickle(" ".join(str(error).split()) or type(error).__name__) from error


class _Clipped:
    """A file that never allocates more than it holds, whatever length is asked for."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size = file, size
        self.tell = file.tell

    def _at_most(self, count: int) -> int:
        rest = max(self._size - self._file.tell(), 0)
        return rest if count < 0 else min(count, rest)

    def read(self, count: int = -1) -> bytes:
        return self._file.read(self._at_most(count) if count > 64 or count < 0 else count)

    def readline(self) -> bytes:
        return self._file.readline()


class _Machine:
    """The stack, the memo and one method for every kind of instruction."""

    def __init__(self, accepts: Callable[[str], bool], text: str | None) -> None:
        self.stack: list[Any] = []
        self._marks: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self._accepts, self._text = accepts, text

    def execute(self, name: str, argument: Any) -> None:
        stack = self.stack
        match name:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case "MARK":
                self._marks.append(stack)
                self.stack = []
            case "POP":
                # As in pickle: without an element above the mark, the mark itself is removed.
                stack.pop() if stack else self._since_mark()
            case "POP_MARK":
                self._since_mark()
            case "DUP":
                stack.append(stack[-1])
            case "NONE":
                stack.append(None)
            case "NEWTRUE" | "NEWFALSE":
                stack.append(name == "NEWTRUE")
            case "INT" | "BININT" | "BININT1" | "BININT2" | "LONG" | "LONG1" | "LONG4":
                if argument.bit_length() > LARGEST_INTEGER:
                    raise DamagedPickle(f"an integer of {argument.bit_length()} bits")
                stack.append(argument)
            case "STRING" | "BINSTRING" | "SHORT_BINSTRING":
                stack.append(self._decoded(argument.encode("latin-1")))
            case (
                "FLOAT" | "BINFLOAT" | "BINBYTES" | "SHORT_BINBYTES" | "BINBYTES8" | "BYTEARRAY8" | "UNICODE"
                | "BINUNICODE" | "SHORT_BINUNICODE" | "BINUNICODE8"
            ):  # fmt: skip
                stack.append(argument)
            case "EMPTY_LIST" | "EMPTY_SET":
                stack.append([])
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                count = int(name[-1])
                elements = tuple(stack[-count:])
                if len(elements) != count:
                    raise DamagedPickle("stack underflow")
                stack[-count:] = [elements]
            case "TUPLE":
                elements = tuple(self._since_mark())
                self.stack.append(elements)
            case "LIST" | "FROZENSET":
                new = self._since_mark()
                self.stack.append(new)
            case "DICT":
                pairs = self._since_mark()
                self.stack.append({})
                self._set_items(pairs)
            case "APPEND":
                self._extend([stack.pop()])
            case "APPENDS" | "ADDITEMS":
                self._extend(self._since_mark())
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                self._set_items([key, value])
            case "SETITEMS":
                self._set_items(self._since_mark())
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self._memo[argument] = stack[-1]
            case "MEMOIZE":
                self._memo[len(self._memo)] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(self._memo[argument])
            case "PERSID" | "BINPERSID":
                stack.append(Persistent(argument if name == "PERSID" else stack.pop()))
            case _:
                self._global_or_call(name, argument)

    def _global_or_call(self, name: str, argument: Any) -> None:
        stack = self.stack
        match name:
            case "GLOBAL":
                stack.append(self._name(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                attribute, module = stack.pop(), stack.pop()
                stack.append(self._name(module, attribute))
            case "INST":
                arguments = self._since_mark()
                self.stack.append(self._call(self._name(*argument.split(" ", 1)), arguments))
            case "OBJ":
                function, *arguments = self._since_mark()
                self.stack.append(self._call(function, arguments))
            case "REDUCE" | "NEWOBJ":
                arguments, function = stack.pop(), stack.pop()
                stack.append(self._call(function, arguments))
            case "NEWOBJ_EX":
                _, arguments, function = stack.pop(), stack.pop(), stack.pop()
                stack.append(self._call(function, arguments))
            case "BUILD":
                state = stack.pop()
                if not isinstance(stack[-1], Call):
                    raise DamagedPickle(f"sets the state of a {type(stack[-1]).__name__}")
                stack[-1].state = state
            case _:  # extension registry, out-of-band buffers
                raise DamagedPickle(f"unsupported instruction {name}")

    def _since_mark(self) -> list[Any]:
        elements = self.stack
        self.stack = self._marks.pop()
        return elements

    def _decoded(self, text: bytes) -> str | bytes:
        if self._text is None:
            return text
        try:
            return text.decode(self._text)
        except UnicodeDecodeError:
            return text

    def _name(self, module: Any, attribute: Any) -> Name:
        if not isinstance(module, str) or not isinstance(attribute, str):
            raise DamagedPickle("a global whose name is not a string")
        name = f"{module}.{attribute}"
        if not self._accepts(name):
            raise RefusedPickle(name)
        return Name(name)

    @staticmethod
    def _call(function: Any, arguments: Any) -> Call:
        if not isinstance(function, Name) or not isinstance(arguments, tuple | list):
            raise DamagedPickle(f"calls a {type(function).__name__}")
        return Call(function.text, tuple(arguments))

    def _extend(self, elements: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, Call):
            target = target.elements
        if not isinstance(target, list):
            raise DamagedPickle(f"appends to a {type(target).__name__}")
        target.extend(elements)

    def _set_items(self, pairs: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, Call):
            target = target.items
        if not isinstance(target, dict):
            raise DamagedPickle(f"sets items of a {type(target).__name__}")
        if len(pairs) % 2:
            raise DamagedPickle("a key without a value")
        for key, value in zip(pairs[::2], pairs[1::2]):
            if _is_plain(key):
                target[key] = value


def _is_plain(key: Any) -> bool:
    if type(key) is tuple:
        return all(type(element) in _PLAIN for element in key)
    return type(key) in _PLAIN
