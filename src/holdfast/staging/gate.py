"""What keeps a step, or anybody who says so, from changing what is still being copied."""

from __future__ import annotations

import os
import threading
import weakref
from typing import Any, Protocol

import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils.hooks import RemovableHandle


class Watched(Protocol):
    """Something that must act before the next step changes tensors."""

    def before_step(self) -> None:
        """Called once, on the thread that steps. Must not raise."""
        ...

    def before_write(self) -> None:
        """Called instead if something else than a step announces that it writes. Must not raise."""
        ...


class StepGate:
    """Calls what it watches before the next `step()` of any optimizer of this process.

    The hook is torch's global one: it covers optimizers nobody told us of, which may hold the same
    parameters. It is not called for steps that run compiled or replayed from a CUDA graph.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._watched: list[Watched] = []
        self._handle: RemovableHandle | None = None
        _GATES.add(self)

    def watch(self, watched: Watched) -> None:
        """Have `before_step` called before the next step, once."""
        with self._lock:
            self._watched.append(watched)
            if self._handle is None:
                self._handle = register_optimizer_step_pre_hook(self._before_step)

    def forget(self, watched: Watched) -> None:
        """Stop watching; does nothing if its step has come."""
        with self._lock:
            self._watched = [other for other in self._watched if other is not watched]

    def close(self) -> None:
        """Take the hook away."""
        with self._lock:
            self._watched = []
            if self._handle is not None:
                self._handle.remove()
                self._handle = None

    def before_write(self) -> None:
        """As before a step, for a writer that is none."""
        for each in self._take():
            each.before_write()

    def _before_step(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        for each in self._take():
            each.before_step()

    def _take(self) -> list[Watched]:
        # Tracing would freeze today's answer into the compiled step; it must not call the hook.
        if not self._watched or torch.compiler.is_compiling():
            return []
        if os.getpid() != self._process:
            # A forked child has copies of the tensors, and not the threads that it would wait for.
            return []
        with self._lock:
            watched, self._watched = self._watched, []
        return watched


_GATES: weakref.WeakSet[StepGate] = weakref.WeakSet()


def before_write() -> None:
    """Announce that the caller is about to overwrite, in place, what snapshots may still copy.

    For writers that are no optimizers: averages that move, weights swapped by copying. Returns when
    no copy needs the old values any more (on a GPU: when the device has been told to wait).
    """
    for gate in list(_GATES):
        gate.before_write()
