"""What a training worker tells whoever started it: one JSON object a line on standard output."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias, Union


@dataclass(frozen=True)
class Started:
    """The worker is ready to train. step, seconds: where it stands, 0 on a fresh start.

    checklist: of the resume, as text. sentences, parameters: counts.
    """

    fresh: bool
    step: int
    seconds: float
    checklist: str
    sentences: int
    parameters: int


@dataclass(frozen=True)
class Stepped:
    """One optimizer step. loss: nats per token, label-smoothed; seconds: trained so far."""

    step: int
    epoch: int
    loss: float
    tokens: int
    seconds: float


@dataclass(frozen=True)
class Evaluated:
    """The development set was scored."""

    step: int
    val_loss: float
    val_bleu: float


@dataclass(frozen=True)
class Saved:
    """A checkpoint is durable. save_seconds: how long training waited for it."""

    step: int
    name: str
    why: str
    save_seconds: float


@dataclass(frozen=True)
class Finished:
    """The budget is used up and the last checkpoint is durable."""

    step: int
    seconds: float


Event: TypeAlias = Union[Started, Stepped, Evaluated, Saved, Finished]  # noqa: UP007

_KINDS: dict[str, type[Any]] = {
    kind.__name__.lower(): kind for kind in (Started, Stepped, Evaluated, Saved, Finished)
}


def emit(event: Event) -> None:
    """Write an event and flush it: a killed worker must not take its last words along."""
    line = {"event": type(event).__name__.lower(), **asdict(event)}
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def read_event(line: str) -> Event | None:
    """The event of a line; None for a line that is something else, or was cut off by a kill."""
    try:
        values = json.loads(line)
        kind = _KINDS[values.pop("event")]
        event: Event = kind(**values)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return event
