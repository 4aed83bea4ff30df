"""Saves, bests and selections mirrored to an experiment tracker, by its ordinary client.

    mirror = TrackerMirror([TensorBoardTracker("runs/tb")], track={"val_bleu": "max"})
    manager = CheckpointManager(..., on_commit=mirror.on_commit, on_failure=mirror.on_failure)

The run folder stays the truth: a tracker that fails costs a warning, never a save. Clients are
imported when a tracker is made.
"""

from holdfast.trackers.mirror import Tracker, TrackerMirror
from holdfast.trackers.mlflow import MLflowTracker
from holdfast.trackers.tensorboard import TensorBoardTracker
from holdfast.trackers.wandb import WandbTracker

__all__ = ["MLflowTracker", "TensorBoardTracker", "Tracker", "TrackerMirror", "WandbTracker"]
