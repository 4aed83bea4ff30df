"""Snapshots of live tensors: copied into reused memory, beside training where that is proven safe.

step_only_memory(optimizers, modules)     which memory only optimizer steps change
Stager.take(tensors, labels, step_only)   -> Snapshot: its tensors do not change any more
before_write()                            whoever else changes such memory says so before
Snapshot.finish / prove / release         whole; provably not torn; memory free again
"""

from holdfast.staging.copying import Copier
from holdfast.staging.gate import StepGate, before_write
from holdfast.staging.overlap import step_only_memory
from holdfast.staging.snapshot import Snapshot
from holdfast.staging.stager import Stager

__all__ = ["Copier", "Snapshot", "Stager", "StepGate", "before_write", "step_only_memory"]
