"""Whether copies may overlap with training: decided by watching the loop, not by hope.

Parameters and optimizer state change only in `optimizer.step()`; that is what overlap rests on. A
loop can break it (weights clipped or swapped for their average after the save, a step that is
compiled or replayed without hooks), and what was overwritten cannot be brought back. So the first
snapshot of a session is copied whole before the call returns, and the loop is watched until its
next step: only if the step announced itself, and nothing had changed until then, do later snapshots
overlap. Once a loop was seen to break the rule it gets no overlap any more.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from holdfast.staging.gate import StepGate
from holdfast.staging.witness import Witness

_SHOWN_NAMES = 3
LATE_MIN_BYTES = 64 << 10


class Overlap:
    """The verdict on one training loop. verdict: a sentence; None while the loop is unknown."""

    def __init__(self, gate: StepGate, *, wanted: bool = True) -> None:
        self._gate = gate
        self._lock = threading.Lock()
        self._trial: _Trial | None = None
        self._allowed = False
        self.verdict: str | None = None if wanted else "overlap is switched off"

    @property
    def allowed(self) -> bool:
        """Whether snapshots may overlap with training now."""
        with self._lock:
            return self._allowed

    @property
    def open(self) -> bool:
        """Whether nothing is known of the loop yet, so that a snapshot should try it."""
        return self.verdict is None

    def try_loop(self, tensors: Sequence[Tensor], labels: Sequence[str]) -> None:
        """Watch the loop from now until its next step. The tensors must be copied already."""
        if not tensors:
            return
        trial = _Trial(self, Witness(tensors, labels))
        with self._lock:
            before, self._trial = self._trial, trial
        if before is not None:
            self._gate.forget(before)
            if before.witness.counted() or before.witness.differing():
                self.refuse("weights changed, but no optimizer announced its step")
                return
        self._gate.watch(trial)

    def conclude(self, changed: Sequence[str]) -> None:
        """The step has come; these tensors had changed before it."""
        if torch.cuda.is_available() and torch.cuda.is_current_stream_capturing():
            self.refuse("the optimizer's step is captured into a CUDA graph")
        elif changed:
            self.refuse(f"{listed(changed)} changed between the save and the next step")
        else:
            with self._lock:
                self._trial = None
                self._allowed = True
                self.verdict = "the loop changes weights in optimizer steps only"

    def look_again(self, changed: Sequence[str]) -> None:
        """Somebody announced to write before the step came; these had changed before that."""
        if changed:
            self.refuse(f"{listed(changed)} changed between the save and the next step")
        else:
            with self._lock:
                self._trial = None

    def refuse(self, reason: str) -> None:
        """No overlap from now on."""
        with self._lock:
            self._trial = None
            self._allowed = False
            self.verdict = f"no overlap: {reason}"

    def close(self) -> None:
        """Stop watching."""
        with self._lock:
            trial, self._trial = self._trial, None
        if trial is not None:
            self._gate.forget(trial)


class _Trial:
    def __init__(self, overlap: Overlap, witness: Witness) -> None:
        self.witness = witness
        self._overlap = overlap

    def before_step(self) -> None:
        self._overlap.conclude(self.witness.counted() or self.witness.differing())

    def before_write(self) -> None:
        self._overlap.look_again(self.witness.counted() or self.witness.differing())


def listed(names: Sequence[str]) -> str:
    """A few names and how many more."""
    shown = ", ".join(names[:_SHOWN_NAMES])
    more = len(names) - _SHOWN_NAMES
    return f"{shown} and {more} more" if more > 0 else shown


def step_only_memory(
    optimizers: Iterable[Optimizer],
    modules: Iterable[nn.Module],
    announced: Iterable[Tensor] = (),
) -> set[int]:
    """Addresses of tensors that change only in or after an optimizer's step, or are `announced`.

    Those are the parameters of an optimizer and the large tensors of its state for them, and frozen
    parameters: if at all, these are changed by hand after a step (a target network that follows),
    which comes late enough. Parameters that take gradients but belong to no optimizer given may
    be stepped by means unknown. Buffers are left out, also where they share memory with a
    parameter: they move in forward. So are tensors in parameter groups (a scheduler writes a
    learning rate held as a tensor). announced: tensors of objects that call `before_write` before
    they change any of them.
    """
    modules = list(modules)
    found = {tensor.data_ptr() for tensor in announced if _overlaps(tensor)}
    found |= {
        parameter.data_ptr()
        for module in modules
        for parameter in module.parameters()
        if not parameter.requires_grad and _overlaps(parameter)
    }
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                state = optimizer.state.get(parameter, {})
                values = state.values() if isinstance(state, dict) else ()
                for tensor in (parameter, *values):
                    if isinstance(tensor, Tensor) and _overlaps(tensor):
                        found.add(tensor.data_ptr())
    for module in modules:
        for buffer in module.buffers():
            if _overlaps(buffer):
                found.discard(buffer.data_ptr())
    return found


def _overlaps(tensor: Tensor) -> bool:
    """Whether a plain tensor large enough to be worth it, whose writes are counted."""
    return (
        tensor.nbytes >= LATE_MIN_BYTES
        and type(tensor) in (Tensor, nn.Parameter)
        and tensor.layout is torch.strided
        and (tensor.is_cpu or tensor.is_cuda)
        and not tensor.is_inference()
    )
