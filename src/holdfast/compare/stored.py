"""Tensors as they lie somewhere, read piece by piece. Without torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from holdfast.jsontext import Json


@dataclass(frozen=True, slots=True)
class Stored:
    """One tensor of one side.

    dtype: as torch names it. raw: the safetensors name of the bytes. shape: as the user knows it.
    read: fills a buffer from an offset in the tensor's bytes, from any thread. digest: of its
    bytes, XXH3-128; None where nobody knows it. where: names it in errors.
    """

    dtype: str
    raw: str
    shape: tuple[int, ...]
    nbytes: int
    read: Callable[[int, memoryview], None]
    where: str
    digest: bytes | None = None

    @property
    def elements(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Part:
    """One component of one side. tree: tagged JSON, None where there is none.

    aliases: further names of stored tensors.
    """

    name: str
    kind: str
    tensors: Mapping[str, Stored]
    aliases: Mapping[str, str] = field(default_factory=dict)
    tree: Json = None


@dataclass(frozen=True)
class Side:
    """One opened checkpoint. facts: epoch, global_step, metrics and so on, as far as known."""

    place: str
    layout: str
    parts: Mapping[str, Part]
    facts: Mapping[str, Json]
    close: Callable[[], None] = lambda: None

    @property
    def global_step(self) -> int | None:
        """Where training stood, None if it does not say."""
        step = self.facts.get("global_step")
        return step if type(step) is int else None
