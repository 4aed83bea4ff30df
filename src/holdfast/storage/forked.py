"""What a forked child must not inherit: locks are shared with it until its last copy closes.

A flock belongs to the open file, not to the process. A DataLoader worker that outlives its parent
would go on holding the run's lock, and a child that exits would run the parent's clean-up.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Forkable(Protocol):
    """Something that holds a descriptor which only this process may go on holding."""

    def forget_in_child(self) -> None:
        """Close the child's copy of the descriptor; the parent's lock is not touched by that."""
        ...


_held: weakref.WeakSet[Forkable] = weakref.WeakSet()


def drop_in_children(holder: Forkable) -> None:
    """Call `holder.forget_in_child()` in every child forked from now on."""
    _held.add(holder)


def _forget() -> None:
    for holder in list(_held):
        holder.forget_in_child()


os.register_at_fork(after_in_child=_forget)
