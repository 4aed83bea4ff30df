"""What comparing two checkpoints finds, as frozen records. Without torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from holdfast.jsontext import Json

Status: TypeAlias = Literal[
    "equal", "changed", "added", "removed", "renamed", "reshaped", "recast", "not_compared"
]
"""changed: same name, shape and dtype. renamed, recast: whether values changed is in `changed`."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """Sums over the elements of one tensor on both sides, in float64.

    changed: elements whose bits differ, or that differ by more than the tolerance. squares_left,
    squares_right, squares_delta: sums of squares over elements that are finite on both sides.
    max_abs: largest absolute difference there. nan_left to inf_right: counts.
    """

    elements: int = 0
    changed: int = 0
    squares_left: float = 0.0
    squares_right: float = 0.0
    squares_delta: float = 0.0
    max_abs: float = 0.0
    nan_left: int = 0
    nan_right: int = 0
    inf_left: int = 0
    inf_right: int = 0

    @property
    def relative_l2(self) -> float:
        """Norm of the difference by that of the left side; infinite from zero to something."""
        if self.squares_delta == 0:
            return 0.0
        if self.squares_left == 0:
            return math.inf
        return math.sqrt(self.squares_delta / self.squares_left)

    @property
    def cosine(self) -> float | None:
        """Cosine of the angle between both sides, None where one of them is zero.

        From the difference and not from the product of both, which would lose the small angles
        that training makes: 1 - cos = (|d|^2 - (|a| - |b|)^2) / (2 |a| |b|).
        """
        left, right = math.sqrt(self.squares_left), math.sqrt(self.squares_right)
        if left == 0 or right == 0 or not math.isfinite(left * right):
            return None
        gap = (self.squares_delta - (left - right) ** 2) / (2 * left * right)
        return 1 - min(max(gap, 0.0), 2.0)

    @property
    def changed_share(self) -> float:
        """Changed elements by all elements."""
        return self.changed / self.elements if self.elements else 0.0


def total(parts: Iterable[Numbers]) -> Numbers:
    """The numbers of several tensors together; correctly rounded, so the order cannot matter."""
    found = list(parts)
    return Numbers(
        elements=sum(n.elements for n in found),
        changed=sum(n.changed for n in found),
        squares_left=_sum(n.squares_left for n in found),
        squares_right=_sum(n.squares_right for n in found),
        squares_delta=_sum(n.squares_delta for n in found),
        max_abs=max((n.max_abs for n in found), default=0.0),
        nan_left=sum(n.nan_left for n in found),
        nan_right=sum(n.nan_right for n in found),
        inf_left=sum(n.inf_left for n in found),
        inf_right=sum(n.inf_right for n in found),
    )


def _sum(values: Iterable[float]) -> float:
    found = list(values)
    try:
        return math.fsum(found)
    except (OverflowError, ValueError):
        return math.inf


@dataclass(frozen=True, slots=True)
class TensorChange:
    """One tensor on both sides. name: as on the right, unless it was removed.

    left_name: as on the left, where it is renamed. dtype, shape: (left, right), None where it is
    missing. certain: of a rename, whether its bytes prove it. numbers: None where no values were
    compared (one side only, shapes that differ, or equal by digest without being read).
    """

    component: str
    name: str
    status: Status
    left_dtype: str | None
    right_dtype: str | None
    left_shape: tuple[int, ...] | None
    right_shape: tuple[int, ...] | None
    left_name: str | None = None
    certain: bool = True
    numbers: Numbers | None = None

    @property
    def elements(self) -> int:
        """Elements of the right side, or of the left where that is all."""
        shape = self.right_shape if self.right_shape is not None else self.left_shape
        return math.prod(shape or ())

    @property
    def changes_values(self) -> bool:
        """Whether any element differs."""
        return self.numbers is not None and self.numbers.changed > 0

    @property
    def same(self) -> bool:
        """Whether there is nothing to tell of it."""
        return self.status == "equal" or (self.status == "changed" and not self.changes_values)


@dataclass(frozen=True, slots=True)
class TreeChange:
    """A difference outside of tensors. left, right: values as text, None where it is missing."""

    component: str
    path: str
    left: str | None
    right: str | None


@dataclass(frozen=True, slots=True)
class Module:
    """Tensors of one component under one prefix, together.

    equal: how many are equal; numbers: over those that could be compared, and whose values were
    read (equal ones by digest count as elements, with no sum of squares).
    """

    component: str
    name: str
    tensors: int
    equal: int
    numbers: Numbers


@dataclass(frozen=True)
class Comparison:
    """Everything that two checkpoints differ in.

    steps: optimizer steps from left to right, None where unknown. tensors: every one, in the order
    of the components. trees: differences outside of tensors, at most a fixed number for each
    component; more_trees: how many beyond that. not_compared: components that cannot be, and why.
    """

    left: str
    right: str
    steps: int | None
    tolerance: float
    tensors: Sequence[TensorChange]
    trees: Sequence[TreeChange] = ()
    more_trees: Mapping[str, int] = field(default_factory=dict)
    not_compared: Mapping[str, str] = field(default_factory=dict)
    bytes_read: int = 0
    facts: Mapping[str, Json] = field(default_factory=dict)

    @property
    def same(self) -> bool:
        """Whether nothing differs (within the tolerance)."""
        return all(t.same for t in self.tensors) and not self.trees and not self.more_trees

    def counts(self) -> dict[str, int]:
        """Tensors by status; changed ones within the tolerance count as equal."""
        counts: dict[str, int] = {}
        for tensor in self.tensors:
            status = "equal" if tensor.same else tensor.status
            counts[status] = counts.get(status, 0) + 1
        return counts

    def different(self) -> list[TensorChange]:
        """Tensors that differ: other than in value first; the model; by falling change."""
        found = [tensor for tensor in self.tensors if not tensor.same]
        return sorted(found, key=_weight)

    def update_ratio(self, numbers: Numbers) -> float | None:
        """Relative change a step: the update-to-weight ratio; None without steps between."""
        if not self.steps or not math.isfinite(numbers.relative_l2):
            return None
        return numbers.relative_l2 / abs(self.steps)

    def modules(self, depth: int) -> list[Module]:
        """The tensors rolled up to `depth` parts of their names; 0 is a whole component."""
        groups: dict[tuple[str, str], list[TensorChange]] = {}
        for tensor in self.tensors:
            parts = tensor.name.split(".")
            prefix = ".".join(parts[: min(depth, max(len(parts) - 1, 0))])
            groups.setdefault((tensor.component, prefix), []).append(tensor)
        return [
            Module(
                component,
                prefix,
                len(members),
                sum(member.same for member in members),
                total(_counted(member) for member in members),
            )
            for (component, prefix), members in groups.items()
        ]


def _counted(tensor: TensorChange) -> Numbers:
    return tensor.numbers or Numbers(elements=tensor.elements)


def _weight(tensor: TensorChange) -> tuple[bool, bool, float, str]:
    size = 0.0 if tensor.numbers is None else tensor.numbers.relative_l2
    return (tensor.status == "changed", tensor.component != "model", -size, tensor.name)
