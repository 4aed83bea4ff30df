"""What to tell somebody whose value cannot be saved."""

from __future__ import annotations

import dataclasses
import enum

import numpy as np

from holdfast.errors import UnsavableError

_BASICS = (int, float, str, bytes, list, tuple, dict, set, frozenset)


def refusal(value: object, path: str, *, in_key: bool = False) -> UnsavableError:
    """The error for a value that neither the table of tags nor the caller can represent."""
    kind = type(value)
    name = f"{kind.__module__}.{kind.__qualname__}"
    base = next((basic.__name__ for basic in _BASICS if issubclass(kind, basic)), None)
    nature = f" (a subclass of {base})" if base and base != kind.__name__ else ""
    place = " as a dict key or set member" if in_key else ""
    return UnsavableError(
        f"A value of type {name}{nature} cannot be saved{place}", where=path, fix=_advice(kind)
    )


def _advice(kind: type) -> str:
    name = kind.__qualname__
    if issubclass(kind, enum.Enum):
        return f"register enum_tag({name}) with the codec, or save the member's value"
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return "convert it with ._asdict() or tuple(), or register a Tag for it with the codec"
    if dataclasses.is_dataclass(kind):
        return f"register dataclass_tag({name}) with the codec, or save dataclasses.asdict(value)"
    if issubclass(kind, np.ndarray) and kind is not np.ndarray:
        return "convert it to a plain array with numpy.asarray(value)"
    if issubclass(kind, np.ndarray):
        return "save it where tensors can be stored, or split it into smaller arrays"
    if issubclass(kind, np.generic):
        return (
            "convert it to a numpy scalar of a portable type, such as numpy.float64, or to Python"
        )
    if hasattr(kind, "state_dict"):
        return "save what its state_dict() returns, or register the object with the manager"
    if issubclass(kind, type) or hasattr(kind, "__code__") or hasattr(kind, "__wrapped__"):
        return "code is never saved: save a name, and look the code up by it after loading"
    for basic in _BASICS:
        if issubclass(kind, basic):
            return (
                f"convert it to a plain {basic.__name__}, or register a Tag for it with the codec"
            )
    return (
        "leave it out, convert it to plain values, give its class state_dict() and "
        "load_state_dict(), or register a Tag for it with the codec"
    )
