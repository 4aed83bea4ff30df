"""The index of a stock distributed checkpoint, read without unpickling.

`torch.distributed.checkpoint` writes `.metadata` as a pickle, of a protocol that torch's
restricted unpickler does not read. Here its instructions are followed with records of our own in
place of every object: a name outside the list below ends the reading, and nothing is ever
imported, made or called. The instructions are those that the standard library's `pickletools`
documents.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from typing import Any

from holdfast.errors import FormatError

_METADATA = "torch.distributed.checkpoint.metadata"
_NAMES = {
    _METADATA: (
        *("Metadata", "TensorStorageMetadata", "BytesStorageMetadata", "ChunkStorageMetadata"),
        *("TensorProperties", "MetadataIndex", "StorageMeta", "_MEM_FORMAT_ENCODING"),
    ),
    "torch.distributed.checkpoint.filesystem": ("_StorageInfo",),
    "torch.serialization": ("_get_layout",),
    "torch": ("Size",),
    "collections": ("OrderedDict",),
    "pathlib": ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath"),
    "pathlib._local": ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath"),
}
_DTYPES = ("float", "bfloat", "double", "half", "int", "uint", "long", "short", "bool", "complex")


class Name:
    """A name that the pickle asks for. Never looked up."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


class Made:
    """What calling a name would have made: its arguments, and the state it was then given."""

    def __init__(self, kind: str, args: tuple[Any, ...]) -> None:
        self.kind, self.args = kind, args
        self.state: Any = {}


def read_records(data: bytes, *, where: str) -> Made:
    """Follow the pickle; returns its top record. Raises FormatError for anything unexpected."""
    machine = _Machine(where)
    try:
        for opcode, argument, _ in pickletools.genops(data):
            machine.do(opcode.name, argument)
    except FormatError:
        raise
    except (ValueError, UnicodeDecodeError, IndexError, KeyError, TypeError) as error:
        raise FormatError(f"Its index is no sound pickle: {error}", where=where) from error
    if len(machine.stack) != 1 or not isinstance(machine.stack[0], Made):
        raise FormatError("Its index is not of a distributed checkpoint", where=where)
    return machine.stack[0]


class _Machine:
    """The stack that a pickle's instructions work on, with records in place of objects."""

    def __init__(self, where: str) -> None:
        self.stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self._where = where

    def do(self, name: str, argument: Any) -> None:
        """One instruction."""
        if name in _VALUES:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name]())
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self._memo[argument] = self.stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            self.stack.append(self._memo[argument])
        elif name not in _IGNORED:
            step = _STEPS.get(name)
            if step is None:
                raise self._refused(f"the instruction {name}")
            step(self, argument)

    def _refused(self, what: str) -> FormatError:
        return FormatError(
            f"Its index holds more than a distributed checkpoint's: {what[:200]}",
            where=self._where,
            fix="do not load it with anything else either, unless you trust where it is from",
        )

    def _memoize(self, _: Any) -> None:
        self._memo[len(self._memo)] = self.stack[-1]

    def _mark(self, _: Any) -> None:
        self._marks.append(len(self.stack))

    def _since_mark(self) -> list[Any]:
        begin = self._marks.pop()
        taken, self.stack[begin:] = self.stack[begin:], []
        return taken

    def _tuple(self, _: Any) -> None:
        self.stack.append(tuple(self._since_mark()))

    def _last_as_tuple(self, count: int) -> None:
        if len(self.stack) < count:
            raise IndexError("the stack is empty")
        taken, self.stack[-count:] = tuple(self.stack[-count:]), []
        self.stack.append(taken)

    def _append(self, _: Any) -> None:
        self._extend([self.stack.pop()])

    def _appends(self, _: Any) -> None:
        self._extend(self._since_mark())

    def _extend(self, values: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise TypeError("something that is no list is appended to")
        self.stack[-1].extend(values)

    def _set_item(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set([key, value])

    def _set_items(self, _: Any) -> None:
        self._set(self._since_mark())

    def _set(self, flat: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is Made and target.kind.endswith(".OrderedDict"):
            target = target.state
        if type(target) is not dict or len(flat) % 2:
            raise TypeError("something that is no dict gets items")
        for key, value in zip(flat[::2], flat[1::2], strict=True):
            if not isinstance(key, (str, int, Made)):
                raise TypeError(f"a {type(key).__name__} is a key")
            target[key] = value

    def _global(self, argument: Any) -> None:
        module, _, name = str(argument).partition(" ")
        self._name(module, name)

    def _stack_global(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self._name(module, name)

    def _name(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise TypeError("a name is no text")
        known = name in _NAMES.get(module, ()) or (module == "torch" and name.startswith(_DTYPES))
        if not known:
            raise self._refused(f"it asks for {module}.{name}")
        self.stack.append(Name(module, name))

    def _make(self, _: Any) -> None:
        args, callee = self.stack.pop(), self.stack.pop()
        if type(callee) is not Name or type(args) is not tuple:
            raise TypeError("something that is no name is called")
        self.stack.append(Made(f"{callee.module}.{callee.name}", args))

    def _build(self, _: Any) -> None:
        state = self.stack.pop()
        if type(self.stack[-1]) is not Made:
            raise TypeError("something that was not made gets a state")
        self.stack[-1].state = state


_VALUES = frozenset(
    {
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    }
)
_IGNORED = frozenset({"PROTO", "FRAME", "STOP"})
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
}
_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    "MEMOIZE": _Machine._memoize,
    "MARK": _Machine._mark,
    "TUPLE": _Machine._tuple,
    "TUPLE1": lambda machine, _: machine._last_as_tuple(1),
    "TUPLE2": lambda machine, _: machine._last_as_tuple(2),
    "TUPLE3": lambda machine, _: machine._last_as_tuple(3),
    "APPEND": _Machine._append,
    "APPENDS": _Machine._appends,
    "SETITEM": _Machine._set_item,
    "SETITEMS": _Machine._set_items,
    "GLOBAL": _Machine._global,
    "STACK_GLOBAL": _Machine._stack_global,
    "NEWOBJ": _Machine._make,
    "REDUCE": _Machine._make,
    "BUILD": _Machine._build,
}
