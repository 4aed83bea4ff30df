"""Places where checkpoint bytes live. Knows nothing of tensors."""

from holdfast.storage.local import LocalRun
from holdfast.storage.memory import MemoryRun
from holdfast.storage.protocol import (
    Block,
    InUseError,
    Lock,
    NameTakenError,
    Opened,
    Progress,
    RunStorage,
    Staged,
)

__all__ = [
    "Block",
    "InUseError",
    "LocalRun",
    "Lock",
    "MemoryRun",
    "NameTakenError",
    "Opened",
    "Progress",
    "RunStorage",
    "Staged",
]
