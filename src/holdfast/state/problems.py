"""What does not fit between a checkpoint and the live objects, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

ProblemKind: TypeAlias = Literal[
    "missing",
    "unexpected",
    "shape",
    "dtype",
    "alias",
    "extra_state",
    "param_group",
    "device",
    "kind",
]

_SENTENCES = {
    "missing": "is needed but not in the checkpoint",
    "unexpected": "is in the checkpoint but not here",
    "shape": "has another shape",
    "dtype": "has another dtype",
    "alias": "is tied here but was saved as different values",
    "extra_state": "has extra state on one side only",
    "param_group": "does not fit the saved parameter groups",
    "device": "has no memory to load into",
    "kind": "is another kind of component",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One reason why a component does not fit, complete enough to act on.

    kind: a short machine word. component: as registered. name: FQN, path or group, empty for the
    whole component. expected: what the live object wants. found: what the checkpoint has.
    suggestion: what to do, empty if nothing sensible is known.
    """

    kind: ProblemKind
    component: str
    name: str
    expected: str = ""
    found: str = ""
    suggestion: str = ""

    def __str__(self) -> str:
        subject = f"{self.component}: {self.name}" if self.name else self.component
        facts = [
            f"{label} {value}"
            for label, value in (("expected", self.expected), ("found", self.found))
            if value
        ]
        detail = f" ({', '.join(facts)})" if facts else ""
        hint = f": {self.suggestion}" if self.suggestion else ""
        return f"{subject} {_SENTENCES[self.kind]}{detail}{hint}"
