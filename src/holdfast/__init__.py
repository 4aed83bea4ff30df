"""holdfast: checkpointing and model selection for PyTorch.

The public names are resolved when first used, so that the command line and everything that reads
only manifests start without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from holdfast.data import ResumableLoader, ResumableSampler, resumable
    from holdfast.decay import ConstantDecay, HalfLife, PowerFunction
    from holdfast.ema import EMAModel
    from holdfast.ensemble import ModelEnsemble
    from holdfast.export import ModelExporter
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
        KeepEMASnapshots,
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
    from holdfast.posthoc import sweep_ema
    from holdfast.selection import (
        ModelSelector,
        average,
        greedy_soup,
        select_model,
        uniform_soup,
        write_chosen,
    )
    from holdfast.session import ResumeReport, resume_training

_HOMES = {
    "AtExit": "holdfast.policy",
    "AtSteps": "holdfast.policy",
    "CheckpointConfig": "holdfast.manager",
    "CheckpointManager": "holdfast.manager",
    "ConstantDecay": "holdfast.decay",
    "EMAModel": "holdfast.ema",
    "EarlyStopper": "holdfast.policy",
    "EarlyStopping": "holdfast.policy",
    "EveryEpochs": "holdfast.policy",
    "EverySeconds": "holdfast.policy",
    "EverySteps": "holdfast.policy",
    "HalfLife": "holdfast.decay",
    "KeepAll": "holdfast.policy",
    "KeepAtMostBytes": "holdfast.policy",
    "KeepBest": "holdfast.policy",
    "KeepEMASnapshots": "holdfast.policy",
    "KeepEverySeconds": "holdfast.policy",
    "KeepEverySteps": "holdfast.policy",
    "KeepLast": "holdfast.policy",
    "KeepPinned": "holdfast.policy",
    "KeepUnscored": "holdfast.policy",
    "KeepWithin": "holdfast.policy",
    "Measurement": "holdfast.policy",
    "ModelEnsemble": "holdfast.ensemble",
    "ModelExporter": "holdfast.export",
    "ModelSelector": "holdfast.selection",
    "OnRequest": "holdfast.policy",
    "Plateau": "holdfast.policy",
    "PowerFunction": "holdfast.decay",
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
    "select_model": "holdfast.selection",
    "sweep_ema": "holdfast.posthoc",
    "uniform_soup": "holdfast.selection",
    "write_chosen": "holdfast.selection",
}

__all__ = [
    "AtExit",
    "AtSteps",
    "CheckpointConfig",
    "CheckpointManager",
    "ConstantDecay",
    "EMAModel",
    "EarlyStopper",
    "EarlyStopping",
    "EveryEpochs",
    "EverySeconds",
    "EverySteps",
    "HalfLife",
    "KeepAll",
    "KeepAtMostBytes",
    "KeepBest",
    "KeepEMASnapshots",
    "KeepEverySeconds",
    "KeepEverySteps",
    "KeepLast",
    "KeepPinned",
    "KeepUnscored",
    "KeepWithin",
    "Measurement",
    "ModelEnsemble",
    "ModelExporter",
    "ModelSelector",
    "OnRequest",
    "Plateau",
    "PowerFunction",
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
    "select_model",
    "sweep_ema",
    "uniform_soup",
    "write_chosen",
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
