"""The optimizer pre-step hook that keeps the step from changing what is still being copied."""

from __future__ import annotations

import os
import threading
from typing import Any, Protocol

import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils.hooks import RemovableHandle


class Watched(Protocol):
    """Something that must act before the next step changes tensors."""

    def before_step(self) -> None:
        """Called once, on the thread that steps. Must not raise."""
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

    def _before_step(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        # Tracing would freeze today's answer into the compiled step; it must not call the hook.
        if not self._watched or torch.compiler.is_compiling():
            return
        if os.getpid() != self._process:
            # A forked child has copies of the tensors, and not the threads that it would wait for.
            return
        with self._lock:
            watched, self._watched = self._watched, []
        for each in watched:
            each.before_step()
