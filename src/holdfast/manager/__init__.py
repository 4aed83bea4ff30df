"""The manager of a run's checkpoints."""

from holdfast.manager.config import CheckpointConfig
from holdfast.manager.manager import CheckpointManager
from holdfast.manager.returned import LoadedCheckpoint

__all__ = ["CheckpointConfig", "CheckpointManager", "LoadedCheckpoint"]
