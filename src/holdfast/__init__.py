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
    from holdfast.manager import CheckpointConfig, CheckpointManager
    from holdfast.posthoc import sweep_ema
    from holdfast.session import ResumeReport, resume_training

_HOMES = {
    "CheckpointConfig": "holdfast.manager",
    "CheckpointManager": "holdfast.manager",
    "ConstantDecay": "holdfast.decay",
    "EMAModel": "holdfast.ema",
    "HalfLife": "holdfast.decay",
    "PowerFunction": "holdfast.decay",
    "ResumableLoader": "holdfast.data",
    "ResumableSampler": "holdfast.data",
    "ResumeReport": "holdfast.session",
    "resumable": "holdfast.data",
    "resume_training": "holdfast.session",
    "sweep_ema": "holdfast.posthoc",
}

__all__ = [
    "CheckpointConfig",
    "CheckpointManager",
    "ConstantDecay",
    "EMAModel",
    "HalfLife",
    "PowerFunction",
    "ResumableLoader",
    "ResumableSampler",
    "ResumeReport",
    "resumable",
    "resume_training",
    "sweep_ema",
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
