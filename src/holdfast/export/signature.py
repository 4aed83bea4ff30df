"""What a graph takes: named inputs, their dtypes, axes with ranges, and what is refused.

Knows no torch, so that whoever serves an artifact can check requests with NumPy alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from holdfast.errors import ConfigError, InputError
from holdfast.jsontext import Json

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
DTYPES = ("bool", "int8", "uint8", "int16", "int32", "int64", "float16", "float32", "float64")
BEYOND_NUMPY = ("bfloat16",)


@dataclass(frozen=True, slots=True)
class Axis:
    """A dimension whose size may vary from `min` to `max`, both included.

    Inputs that name the same axis must agree in its size. Raises ConfigError for an empty range.
    """

    name: str
    min: int
    max: int

    def __post_init__(self) -> None:
        if _NAME.fullmatch(self.name) is None:
            raise ConfigError(f"{self.name[:80]!r} cannot be the name of an axis")
        if not 0 <= self.min <= self.max or self.max < 1:
            raise ConfigError(
                f"The axis {self.name} goes from {self.min} to {self.max}, which is no range of "
                "sizes",
                fix='give the smallest and the largest size, as in Axis("length", 1, 128)',
            )

    @property
    def fixed(self) -> bool:
        """Whether it can have one size only."""
        return self.min == self.max

    def __str__(self) -> str:
        return f"{self.name} {self.min}..{self.max}"


@dataclass(frozen=True, slots=True)
class Input:
    """One tensor a graph takes.

    axes: an `Axis` where the size varies, a number where it does not. dtype: as torch and NumPy
    call it. low, high: of its values, both included; for integers they are checked, since an index
    beyond the table it is looked up in gives garbage in some runtimes. pad: the value that stands
    for nothing, on the right of the last axis. mask: 1 where a place of the last axis is used and
    0 where it is padding. Raises ConfigError for what cannot be.
    """

    name: str
    axes: tuple[Axis | int, ...]
    dtype: str = "float32"
    low: float = -3.0
    high: float = 3.0
    pad: int | None = None
    mask: bool = False

    def __post_init__(self) -> None:
        if _NAME.fullmatch(self.name) is None:
            raise ConfigError(f"{self.name[:80]!r} cannot be the name of an input")
        if self.dtype not in (*DTYPES, *BEYOND_NUMPY):
            raise ConfigError(
                f"The input {self.name} has dtype {self.dtype!r}",
                fix=f"use one of {', '.join((*DTYPES, *BEYOND_NUMPY))}",
            )
        if not self.low <= self.high:
            raise ConfigError(f"The input {self.name} has values from {self.low} to {self.high}")
        if (self.pad is not None or self.mask) and not self.axes:
            raise ConfigError(f"The input {self.name} has no axis that could be padded")

    @property
    def is_integer(self) -> bool:
        """Whether its values are whole numbers (bool not counted)."""
        return self.dtype.startswith(("int", "uint"))


def tokens(name: str, axes: Sequence[Axis | int], size: int, *, pad: int | None = 0) -> Input:
    """An input of int64 ids from 0 to `size` - 1, padded on the right with `pad`."""
    return Input(name, tuple(axes), "int64", 0, size - 1, pad)


@dataclass(frozen=True, slots=True)
class Signature:
    """Everything a caller of an exported graph must know.

    outputs: their names, in order. all_padding: "reject" refuses rows without a single used place
    (attention over nothing is NaN in one runtime and garbage in the next); "allow" lets them
    through, for models that give them a meaning. Raises ConfigError if it contradicts itself.
    """

    inputs: tuple[Input, ...]
    outputs: tuple[str, ...] = ("output",)
    all_padding: str = "reject"

    def __post_init__(self) -> None:
        names = [one.name for one in self.inputs]
        if not names or not self.outputs:
            raise ConfigError("A graph has at least one input and one output")
        if len({*names, *self.outputs}) != len(names) + len(self.outputs):
            raise ConfigError("Inputs and outputs of a graph need different names")
        if self.all_padding not in ("reject", "allow"):
            raise ConfigError(f'all_padding is {self.all_padding!r}; use "reject" or "allow"')
        seen: dict[str, Axis] = {}
        for axis in (axis for one in self.inputs for axis in one.axes if isinstance(axis, Axis)):
            if seen.setdefault(axis.name, axis) != axis:
                raise ConfigError(
                    f"The axis {axis.name} has two ranges: {seen[axis.name]} and {axis}"
                )

    @property
    def axes(self) -> dict[str, Axis]:
        """The axes by name, in order of appearance."""
        return {
            axis.name: axis for one in self.inputs for axis in one.axes if isinstance(axis, Axis)
        }

    def check(self, arrays: Sequence[NDArray[Any]]) -> None:
        """Refuse what the graph was not made for. Raises InputError naming input and reason."""
        if len(arrays) != len(self.inputs):
            raise InputError(
                f"The graph takes {len(self.inputs)} inputs, given were {len(arrays)}",
                fix=f"give {', '.join(one.name for one in self.inputs)}, in this order",
            )
        sizes: dict[str, int] = {}
        for one, array in zip(self.inputs, arrays, strict=True):
            _check_array(one, array, sizes)
            if self.all_padding == "reject":
                _check_rows(one, array)

    def to_dict(self) -> dict[str, Json]:
        """As plain values; the inverse of `from_dict`."""
        return {
            "inputs": [_input_out(one) for one in self.inputs],
            "outputs": list(self.outputs),
            "all_padding": self.all_padding,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Signature:
        """The signature that `to_dict` described. Raises ConfigError if it is none."""
        try:
            inputs = tuple(_input_in(one) for one in values["inputs"])
            return cls(inputs, tuple(values["outputs"]), values["all_padding"])
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(f"Not the signature of a graph: {error!r}") from error


def _check_array(one: Input, array: NDArray[Any], sizes: dict[str, int]) -> None:
    if one.dtype not in BEYOND_NUMPY and array.dtype.name != one.dtype:
        raise InputError(
            f"The input {one.name} is {array.dtype.name}; the graph takes {one.dtype}",
            fix=f"convert it to {one.dtype}",
        )
    if array.ndim != len(one.axes):
        raise InputError(
            f"The input {one.name} has {array.ndim} dimensions; the graph takes {len(one.axes)}",
            fix=f"its dimensions are {', '.join(str(axis) for axis in one.axes) or 'none'}",
        )
    for axis, size in zip(one.axes, array.shape, strict=True):
        _check_size(one, axis, size, sizes)
    if one.is_integer and array.size and not (array.min() >= one.low and array.max() <= one.high):
        raise InputError(
            f"The input {one.name} holds values from {array.min()} to {array.max()}; the graph "
            f"takes {one.low:g} to {one.high:g}",
            fix="look the values up in the vocabulary this model was exported with",
        )


def _check_size(one: Input, axis: Axis | int, size: int, sizes: dict[str, int]) -> None:
    if isinstance(axis, int):
        if size != axis:
            raise InputError(f"A dimension of the input {one.name} is {size}; it must be {axis}")
        return
    if not axis.min <= size <= axis.max:
        raise InputError(
            f"The {axis.name} of the input {one.name} is {size}; the graph was exported and "
            f"checked for {axis.min} to {axis.max}",
            fix="cut or divide the input, or export again with a wider range",
        )
    if sizes.setdefault(axis.name, size) != size:
        raise InputError(
            f"The {axis.name} of the input {one.name} is {size}, that of another input "
            f"{sizes[axis.name]}"
        )


def _check_rows(one: Input, array: NDArray[Any]) -> None:
    if (one.pad is None and not one.mask) or not array.size:
        return
    used = array != 0 if one.mask else array != one.pad
    empty = np.flatnonzero(~used.any(axis=-1))
    if len(empty):
        raise InputError(
            f"Row {empty[0]} of the input {one.name} is all padding, which means nothing",
            fix="leave empty rows out, and put empty results in their places",
        )


def _input_out(one: Input) -> dict[str, Json]:
    axes: list[Json] = [
        axis if isinstance(axis, int) else {"name": axis.name, "min": axis.min, "max": axis.max}
        for axis in one.axes
    ]
    return {
        "name": one.name,
        "axes": axes,
        "dtype": one.dtype,
        "low": one.low,
        "high": one.high,
        "pad": one.pad,
        "mask": one.mask,
    }


def _input_in(values: Mapping[str, Any]) -> Input:
    axes = tuple(axis if isinstance(axis, int) else Axis(**axis) for axis in values["axes"])
    return Input(**{**values, "axes": axes})
