"""Places where checkpoint bytes live. Knows nothing of tensors."""

from holdfast.storage.local import LocalRun
from holdfast.storage.memory import MemoryRun
from holdfast.storage.protocol import Block, NameTakenError, Opened, Progress, RunStorage, Staged

__all__ = [
    "Block",
    "LocalRun",
    "MemoryRun",
    "NameTakenError",
    "Opened",
    "Progress",
    "RunStorage",
    "Staged",
]
