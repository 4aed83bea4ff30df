"""The state of an `EMAModel` as a plain dict, for `torch.save` and for code of the original."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from holdfast.decay import read_schedule
from holdfast.ema._average import Average, read_clock
from holdfast.errors import FormatError, MismatchError
from holdfast.staging import before_write
from holdfast.state import Problem

if TYPE_CHECKING:
    from holdfast.ema.model import EMAModel


def plain_state(ema: EMAModel) -> dict[str, Any]:
    """Averages, counters and schedules. "shadow" and "decay" are those of the first average."""
    shadows = ema._shadows
    shadows.refresh()
    averages = [
        {**average.record(), "shadow": dict(average.shadow)} for average in shadows.averages
    ]
    return {
        "decay": ema.decay,
        "shadow": {**averages[0]["shadow"], **shadows.copies},
        "num_updates": ema.updates,
        "clock": [ema.clock.steps, ema.clock.samples],
        "update_every": ema.update_every,
        "since_update": ema._since_update,
        "uncounted": ema._uncounted,
        "averages": averages,
    }


@torch.no_grad()
def apply_plain_state(ema: EMAModel, state: Mapping[str, Any]) -> None:
    """Load it, checks first. Raises MismatchError or FormatError with nothing changed."""
    shadows = ema._shadows
    shadows.refresh()
    shadow = state.get("shadow")
    if not isinstance(shadow, Mapping):
        raise FormatError('The state of an EMAModel holds no "shadow" dict', where="ema")
    saved = state.get("averages") or [{"shadow": shadow}]
    _check_profiles(shadows.averages, saved)
    pairs: list[tuple[Tensor, Tensor]] = []
    problems: list[Problem] = []
    for average, record in zip(shadows.averages, saved, strict=True):
        pairs += _pairs(average.shadow, record["shadow"], problems, strict=True)
    pairs += _pairs(shadows.copies, shadow, problems, strict=False)
    if problems:
        raise MismatchError("The state does not fit the averaged model", problems=problems)
    clock = read_clock(state["clock"]) if "clock" in state else None
    before_write()
    for home, tensor in pairs:
        home.copy_(tensor)
    for average, record in zip(shadows.averages, saved, strict=True):
        if "updates" in record:
            average.take_record(record)
        else:
            average.updates = max(1, int(state.get("num_updates", 1)))
    if clock is not None:
        ema.clock = clock
        ema._since_update = int(state.get("since_update", 0))
        ema._uncounted = int(state.get("uncounted", 0))


def _check_profiles(averages: tuple[Average, ...], saved: object) -> None:
    if not isinstance(saved, list) or len(saved) != len(averages):
        raise MismatchError(
            f"The state holds {len(saved) if isinstance(saved, list) else 0} averages, "
            f"here are {len(averages)}",
            fix="make the EMAModel with the schedules it was saved with",
        )
    for average, record in zip(averages, saved, strict=True):
        if "schedule" in record:
            kind = type(read_schedule(record["schedule"]))
            if kind is not type(average.schedule):
                raise MismatchError(
                    f"The state is of a {kind.__name__}, here is a "
                    f"{type(average.schedule).__name__}",
                    fix="make the EMAModel with the schedules it was saved with",
                )


def _pairs(
    homes: Mapping[str, Tensor],
    saved: Mapping[str, Tensor],
    problems: list[Problem],
    *,
    strict: bool,
) -> list[tuple[Tensor, Tensor]]:
    pairs = []
    for name, home in homes.items():
        tensor = saved.get(name)
        if tensor is None:
            if strict:
                problems.append(Problem("missing", "ema", name))
        elif tensor.shape != home.shape:
            problems.append(
                Problem("shape", "ema", name, str(list(home.shape)), str(list(tensor.shape)))
            )
        else:
            pairs.append((home, tensor))
    return pairs
