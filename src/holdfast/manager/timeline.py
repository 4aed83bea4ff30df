"""Which branch and sequence number the next commit gets, and who its parent is.

"Newest" goes by step within a branch. A run that goes back to an older checkpoint, or starts
afresh in a folder that already holds checkpoints, opens a new branch: otherwise its first saves
would count as older than the abandoned ones, and rotation would delete them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from holdfast.values import CheckpointInfo, Parent


@dataclass
class Timeline:
    """Where this process stands among the commits of the run folder."""

    parent: Parent | None = None
    branch: int | None = None
    _parents_branch: int | None = None

    def went_back_to(self, info: CheckpointInfo) -> None:
        """The session's state is now that of this checkpoint."""
        self.parent = Parent("resumed_from", info.id, info.name, info.global_step)
        self.branch = None
        self._parents_branch = info.branch

    def place(self, history: Sequence[CheckpointInfo]) -> tuple[int, int]:
        """Branch and sequence of the next commit; `history` ascends from oldest to newest."""
        sequence = max((info.sequence for info in history), default=-1) + 1
        if self.branch is None:
            self.branch = self._first_branch(history)
        return self.branch, sequence

    def starts_beside_others(self, history: Sequence[CheckpointInfo]) -> bool:
        """Whether the next commit is the first of a session that resumed from nothing here."""
        return self.branch is None and self.parent is None and bool(history)

    def _first_branch(self, history: Sequence[CheckpointInfo]) -> int:
        newest = history[-1] if history else None
        if newest is not None and self.parent is not None and self.parent.id == newest.id:
            return newest.branch
        # What was restored counts even where it cannot be read just now: a branch that began below
        # it would be older than it, and the next rotation could delete what was saved last.
        known = [info.branch for info in history]
        known += [] if self._parents_branch is None else [self._parents_branch]
        return max(known, default=-1) + 1

    def parents(self) -> tuple[Parent, ...]:
        """The parents to record in the next commit."""
        return () if self.parent is None else (self.parent,)
