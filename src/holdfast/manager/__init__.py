"""The manager of a run's checkpoints."""

from holdfast.manager.config import CheckpointConfig
from holdfast.manager.manager import CheckpointManager
from holdfast.manager.returned import LoadedCheckpoint
from holdfast.manager.rotation import PruneReport

__all__ = ["CheckpointConfig", "CheckpointManager", "LoadedCheckpoint", "PruneReport"]
