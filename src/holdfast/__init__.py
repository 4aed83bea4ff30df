"""holdfast: checkpointing and model selection for PyTorch.

The public names are resolved when first used, so that the command line and everything that reads
only manifests start without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from holdfast.data import ResumableLoader, ResumableSampler, resumable
    from holdfast.manager import CheckpointConfig, CheckpointManager
    from holdfast.policy import (
        AtExit,
        AtSteps,
        EarlyStopper,
        EarlyStopping,
        EveryEpochs,
        EverySeconds,
        EverySteps,
        KeepAll,
        KeepAtMostBytes,
        KeepBest,
        KeepEverySeconds,
        KeepEverySteps,
        KeepLast,
        KeepPinned,
        KeepUnscored,
        KeepWithin,
        Measurement,
        OnRequest,
        Plateau,
        WhenAbove,
        WhenBelow,
        WhenImproves,
    )
    from holdfast.selection import ModelSelector, average, greedy_soup, uniform_soup
    from holdfast.session import ResumeReport, resume_training

_HOMES = {
    "AtExit": "holdfast.policy",
    "AtSteps": "holdfast.policy",
    "CheckpointConfig": "holdfast.manager",
    "CheckpointManager": "holdfast.manager",
    "EarlyStopper": "holdfast.policy",
    "EarlyStopping": "holdfast.policy",
    "EveryEpochs": "holdfast.policy",
    "EverySeconds": "holdfast.policy",
    "EverySteps": "holdfast.policy",
    "KeepAll": "holdfast.policy",
    "KeepAtMostBytes": "holdfast.policy",
    "KeepBest": "holdfast.policy",
    "KeepEverySeconds": "holdfast.policy",
    "KeepEverySteps": "holdfast.policy",
    "KeepLast": "holdfast.policy",
    "KeepPinned": "holdfast.policy",
    "KeepUnscored": "holdfast.policy",
    "KeepWithin": "holdfast.policy",
    "Measurement": "holdfast.policy",
    "ModelSelector": "holdfast.selection",
    "OnRequest": "holdfast.policy",
    "Plateau": "holdfast.policy",
    "ResumableLoader": "holdfast.data",
    "ResumableSampler": "holdfast.data",
    "ResumeReport": "holdfast.session",
    "WhenAbove": "holdfast.policy",
    "WhenBelow": "holdfast.policy",
    "WhenImproves": "holdfast.policy",
    "average": "holdfast.selection",
    "greedy_soup": "holdfast.selection",
    "resumable": "holdfast.data",
    "resume_training": "holdfast.session",
    "uniform_soup": "holdfast.selection",
}

__all__ = [
    "AtExit",
    "AtSteps",
    "CheckpointConfig",
    "CheckpointManager",
    "EarlyStopper",
    "EarlyStopping",
    "EveryEpochs",
    "EverySeconds",
    "EverySteps",
    "KeepAll",
    "KeepAtMostBytes",
    "KeepBest",
    "KeepEverySeconds",
    "KeepEverySteps",
    "KeepLast",
    "KeepPinned",
    "KeepUnscored",
    "KeepWithin",
    "Measurement",
    "ModelSelector",
    "OnRequest",
    "Plateau",
    "ResumableLoader",
    "ResumableSampler",
    "ResumeReport",
    "WhenAbove",
    "WhenBelow",
    "WhenImproves",
    "average",
    "greedy_soup",
    "resumable",
    "resume_training",
    "uniform_soup",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'holdfast' has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
