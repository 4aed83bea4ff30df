"""What a rehearsal observes and concludes. Without torch, and as plain JSON between processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias

Kind: TypeAlias = Literal[
    "random stream",
    "loader",
    "scaler",
    "scheduler",
    "optimizer",
    "module",
    "buffer",
    "stateful",
    "iterator",
    "tensor",
    "value",
    "loss",
]


@dataclass(frozen=True, slots=True)
class Mark:
    """The digest of one piece of state. saved: whether checkpoints hold it."""

    kind: Kind
    digest: str
    saved: bool


@dataclass(frozen=True, slots=True)
class Observation:
    """Everything seen at one moment. marks: by name. used: what optimizers stepped with since the
    moment before: learning rates and how far schedulers were, in order. loss: as the step gave it.
    """

    marks: Mapping[str, Mark]
    used: tuple[str, ...] = ()
    loss: str = ""


@dataclass(frozen=True, slots=True)
class Course:
    """One process. start: when the checkpoint was saved, or restored; steps: after each step."""

    start: Observation
    steps: tuple[Observation, ...]
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Course:
        """Inverse of `to_json`."""
        return cls(
            _observation(data["start"]),
            tuple(map(_observation, data["steps"])),
            tuple(data["warnings"]),
        )


def _observation(data: Mapping[str, Any]) -> Observation:
    marks = {name: Mark(**mark) for name, mark in data["marks"].items()}
    return Observation(marks, tuple(data["used"]), data["loss"])


@dataclass(frozen=True, slots=True)
class Finding:
    """One reason why a resumed run is another one. step: 0 right after restoring, else after how
    many steps it showed. fix: what to do.
    """

    kind: str
    name: str
    step: int
    what: str
    fix: str


@dataclass(frozen=True, slots=True)
class Certificate:
    """Whether a run resumes exactly. findings: why not, the likeliest first. notes: state that
    nobody saves and that differed without any effect seen.
    """

    entry: str
    exact: bool
    warm_up_steps: int
    steps: int
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
