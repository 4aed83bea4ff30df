"""Short ways to write down histories and moments in the tests of policies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from hypothesis import HealthCheck, settings

from holdfast.policy import Moment, PrunePlan, measured
from holdfast.values import CheckpointInfo

NAN = float("nan")
INF = float("inf")
HOUR = 3600.0
DAY = 24 * HOUR
GB = 10**9

STEADY = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
"""Property tests that give the same answer on every run, however busy the machine."""


def checkpoint(
    id: str,
    step: int = 0,
    *,
    branch: int = 0,
    sequence: int = 0,
    time: float = 0.0,
    bytes: int = GB,
    pinned: str | None = None,
    metrics: Mapping[str, float] | None = None,
) -> CheckpointInfo:
    """A committed checkpoint named after its step."""
    return CheckpointInfo(
        id=id,
        name=f"checkpoint_step{step:08d}",
        epoch=0,
        global_step=step,
        branch=branch,
        sequence=sequence,
        time=time,
        bytes=bytes,
        metrics=dict(metrics or {}),
        pinned=pinned,
    )


def losses(values: Iterable[float | None]) -> list[CheckpointInfo]:
    """Checkpoints a, b, c, ... at steps 100, 200, ... with these val_loss; None: not recorded."""
    return [
        checkpoint(
            chr(ord("a") + place),
            100 * (place + 1),
            sequence=place,
            metrics={} if value is None else {"val_loss": value},
        )
        for place, value in enumerate(values)
    ]


def ids(history: Sequence[CheckpointInfo]) -> str:
    """The ids in order, as one word."""
    return "".join(info.id for info in history)


def kept(plan: PrunePlan) -> str:
    """The ids that a plan keeps, oldest first, as one word."""
    return "".join(plan.keep)


def moment(
    step: int = 0,
    *,
    epoch: int = 0,
    now: float = 0.0,
    requested: str | None = None,
    exiting: str | None = None,
    **metrics: float,
) -> Moment:
    """A moment at which all of `metrics` were measured just now."""
    return Moment(step, epoch, now, measured(metrics, step), requested, exiting)
