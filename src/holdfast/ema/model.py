"""`EMAModel`: averages of a model's weights over the steps of training."""

from __future__ import annotations

import contextlib
import threading
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from holdfast.decay import Clock, ConstantDecay, PowerFunction, Schedule, SegmentMean
from holdfast.ema._average import Average
from holdfast.ema._hook import OptimizerHook
from holdfast.ema._roster import Entry
from holdfast.ema._shadows import BufferPolicy, Shadows
from holdfast.ema._swap import Swap, SwapMethod, pointer_swap_is_legal
from holdfast.ema.foreign import read_foreign
from holdfast.ema.plain import apply_plain_state, plain_state
from holdfast.ema.stored import StoredAverage
from holdfast.errors import AverageError, ConfigError, HoldfastWarning
from holdfast.state import (
    ComponentState,
    RestorePlan,
    SavesItself,
    StoredComponent,
    note_displacement,
)


class EMAModel:
    """Averages of a model's weights, beside it or on another device, in at least 32 bits.

    model: wrapped or not. decay: of the average, or a `Schedule`, or several, each of which makes
    an average of its own at little more than the cost of one. device: where the averages live; None
    is beside the weights. update_every: fold weights in only at every n-th step, with the decay of
    n steps. buffers: "copy" keeps those of the last update, "average" averages floating ones,
    "ignore" leaves the model's own. dtype: to average in, None is float32 or the weights' own if
    wider. segment_means: also keep the mean of all updates since the last checkpoint. swap: how
    `apply` works; "auto" points at the average where that is safe and copies elsewhere.

    Parameters that are tied count once; frozen ones cost nothing until they thaw. Call `update()`
    once after each optimizer step, or `attach(optimizer)` once. Not safe to use from several
    threads at a time, except that a second `apply` is always refused.
    """

    def __init__(
        self,
        model: nn.Module,
        decay: float | Schedule | Sequence[float | Schedule] = 0.9999,
        device: torch.device | str | None = None,
        *,
        update_every: int = 1,
        buffers: BufferPolicy = "copy",
        dtype: torch.dtype | None = None,
        segment_means: bool = False,
        swap: SwapMethod = "auto",
    ) -> None:
        schedules = _schedules(decay) + ([SegmentMean()] if segment_means else [])
        _check_options(update_every, buffers, dtype, swap)
        self.model = model
        self.update_every = update_every
        self.clock = Clock()
        self._swap_method = swap
        self._needs_samples = any(schedule.clock_unit == "samples" for schedule in schedules)
        self._shadows = Shadows(
            model,
            [Average(schedule) for schedule in schedules],
            device=None if device is None else torch.device(device),
            dtype=dtype,
            buffers=buffers,
        )
        self._uncounted = 0
        self._since_update = 0
        self._hook: OptimizerHook | None = None
        self._samples_per_step: int | None = None
        self._swap: Swap | None = None
        self._swap_lock = threading.Lock()
        self._shadows.restart(self._shadows.averages)

    # Averaging

    @property
    def schedules(self) -> tuple[Schedule, ...]:
        """The schedule of each average, in the order given; that of segment means comes last."""
        return tuple(average.schedule for average in self._shadows.averages)

    @property
    def decay(self) -> float | None:
        """The decay of the first average, None if it has none that is constant."""
        first = self.schedules[0]
        return first.decay if isinstance(first, ConstantDecay) else None

    @property
    def updates(self) -> int:
        """How often weights were folded into the first average."""
        return self._shadows.averages[0].updates

    def update(self, samples: int | None = None) -> None:
        """Count one optimizer step and average the weights as they are now.

        samples: training examples that this step saw, over all micro-batches and ranks; needed by
        schedules whose unit is samples, unless `count` was told. Do not call it for a step that the
        gradient scaler skipped. Raises AverageError while an average is swapped in, or when an
        optimizer makes the updates; ConfigError if samples are needed and unknown.
        """
        if self._hook is not None:
            raise AverageError(
                "The optimizer makes the updates already, so this one would count double",
                fix="leave out the call of update(), or detach()",
            )
        self._step(samples)

    def count(self, samples: int) -> None:
        """Note examples seen, for the next update: call it for each micro-batch."""
        self._uncounted += _whole("samples", samples, least=0)

    def attach(self, optimizer: Optimizer, *, samples_per_step: int | None = None) -> None:
        """Let every step of the optimizer that is carried out update the averages.

        Steps that a gradient scaler skips are not counted, micro-batches without a step neither.
        Raises AverageError if attached already.
        """
        if self._hook is not None:
            raise AverageError(
                "An optimizer makes the updates already",
                fix="attach only the one that steps last; detach() first to change it",
            )
        if samples_per_step is not None:
            _whole("samples_per_step", samples_per_step, least=1)
        self._samples_per_step = samples_per_step
        self._hook = OptimizerHook(optimizer, self._before_step, self._after_step)
        self._shadows.attach(True)

    def detach(self) -> None:
        """Undo `attach`."""
        if self._hook is not None:
            self._hook.remove()
            self._hook = None
            self._shadows.attach(False)

    def reset(self) -> None:
        """Start every average anew from the present weights, with no updates."""
        self._refuse_swapped("start anew")
        self.clock, self._uncounted, self._since_update = Clock(), 0, 0
        self._shadows.restart(self._shadows.averages)

    def _before_step(self) -> None:
        self._refuse_swapped("step the optimizer")
        self._shadows.look_up()

    def _after_step(self) -> None:
        self._step(None if self._uncounted else self._samples_per_step)

    def _step(self, samples: int | None) -> None:
        self._refuse_swapped("update")
        seen = self._uncounted + (0 if samples is None else _whole("samples", samples, least=0))
        if self._needs_samples and seen == 0:
            raise ConfigError(
                "The schedule counts samples, but none were counted for this step",
                fix="pass update(samples=...), call count(n) for each micro-batch, or "
                "attach(optimizer, samples_per_step=...)",
            )
        before = self.clock
        self.clock = Clock(before.steps + 1, before.samples + seen)
        self._uncounted = 0
        for average in self._shadows.averages:
            average.advance(before, self.clock)
        self._since_update += 1
        if self._since_update >= self.update_every:
            self._since_update = 0
            self._shadows.fold()

    # Evaluating

    def apply(self, average: int | Schedule = 0, *, initial: bool = False) -> None:
        """Put an average in the place of the training weights, until `restore()`.

        average: which one, by place or schedule. initial: evaluate even an average that has had no
        update, which is the weights it started from. Raises AverageError if one is swapped in
        already (the training weights are as safe as before), or if it has had no update.
        """
        chosen = self._chosen(average)
        if chosen.updates == 0 and not initial:
            raise AverageError(
                "The average has had no update, so it is the weights that training started from",
                fix="evaluate after the first update, or pass initial=True if this is meant",
            )
        if not self._swap_lock.acquire(blocking=False):
            raise AverageError(
                "An average is swapped in already, perhaps by another thread",
                fix="call restore(), or leave `with ema.applied():`, before applying again",
            )
        try:
            self._swap = self._swapped(chosen)
        except BaseException:
            self._swap_lock.release()
            raise

    def restore(self) -> None:
        """Put the training weights back; does nothing if no average is swapped in.

        Raises AverageError, after putting them back, if the weights were changed meanwhile: then a
        training step was made on the average.
        """
        if self._swap is not None and not self._put_back(self._swap):
            raise AverageError(
                "The weights were changed while the average was in their place; the training "
                "weights are back as they were, but the average may be spoilt",
                fix="step the optimizer outside `with ema.applied():`",
            )

    @contextlib.contextmanager
    def applied(self, average: int | Schedule = 0, *, initial: bool = False) -> Iterator[nn.Module]:
        """The model with an average in place of its weights; they are back afterwards, always.

        The model's train or eval mode is left as it is. Raises as `apply` and `restore` do.
        """
        self.apply(average, initial=initial)
        try:
            yield self.model
        except BaseException:
            if self._swap is not None and not self._put_back(self._swap):
                warnings.warn(
                    "The weights were changed while the average was in their place: the average "
                    "may be spoilt",
                    HoldfastWarning,
                    stacklevel=3,
                )
            raise
        self.restore()

    @torch.no_grad()
    def copy_to(self, module: nn.Module, average: int | Schedule = 0) -> None:
        """Copy an average into another module of the same structure, such as a deep copy.

        Raises RuntimeError, as `load_state_dict`, if names or shapes differ.
        """
        module.load_state_dict(self.averaged_state_dict(average))

    def averaged_state_dict(self, average: int | Schedule = 0) -> dict[str, Any]:
        """The state dict of the model with the average in it: every FQN, tied ones sharing memory.

        Tensors of the average are its own memory, not copies, and the next update changes them.
        """
        return StoredAverage(self, self._chosen(average)).state_dict()

    def _chosen(self, average: int | Schedule) -> Average:
        for place, candidate in enumerate(self._shadows.averages):
            if average == place or average == candidate.schedule:
                return candidate
        raise ConfigError(
            f"There is no average {average!r}",
            fix=f"there are: {', '.join(map(repr, self.schedules))}",
        )

    def _swapped(self, average: Average) -> Swap:
        self._shadows.refresh()
        pairs: list[tuple[Entry, Tensor]] = [
            (entry, tensor)
            for name, entry in self._shadows.entries.items()
            if (tensor := average.shadow.get(name, self._shadows.copies.get(name))) is not None
        ]
        by_pointer = self._swap_method == "pointer" or (
            self._swap_method == "auto"
            and pointer_swap_is_legal(self.model, [entry for entry, _ in pairs])
        )
        swap = Swap(pairs, by_pointer=by_pointer)
        swap.do()
        note_displacement(swap)
        self._finalizer = weakref.finalize(self, swap.undo)
        return swap

    def _put_back(self, swap: Swap) -> bool:
        untouched = swap.undo()
        self._finalizer.detach()
        self._swap = None
        self._swap_lock.release()
        return untouched

    def _refuse_swapped(self, what: str) -> None:
        if self._swap is not None:
            raise AverageError(
                f"An average is in the place of the training weights: cannot {what} now",
                fix="leave `with ema.applied():`, or call restore(), first",
            )

    # Saving and restoring

    def state_dict(self) -> dict[str, Any]:
        """Every average with its counters and schedules; tensors are live memory, not copies."""
        return plain_state(self)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave, or a dict with no more than "shadow" and "decay".

        Raises MismatchError, with nothing changed, if names or shapes do not fit; AverageError
        while an average is swapped in.
        """
        self._refuse_swapped("load")
        apply_plain_state(self, state_dict)

    def import_state(self, state: Mapping[str, Any], *, steps: int | None = None) -> str:
        """Take over the average that another library kept; returns which library that was.

        state: the state dict of torch's AveragedModel, timm's ModelEmaV2 or V3, ema-pytorch's EMA,
        or of a plain averaged model. steps: how many it had counted, where the layout does not
        say; without it a warm-up would begin again and wipe the average out. Only for a single
        average of constant decay or half-life: the history that other schedules need is not in it.
        Raises FormatError for other layouts, MismatchError, with nothing changed, if names or
        shapes do not fit, ConfigError if `steps` is needed.
        """
        self._refuse_swapped("import")
        found = read_foreign(state)
        counted = found.steps if steps is None else _whole("steps", steps, least=0)
        if len(self.schedules) > 1 or isinstance(self.schedules[0], PowerFunction):
            raise ConfigError(
                "The state holds one average of unknown history, which cannot become several or "
                "the average of a power function",
                fix="import it into EMAModel(model, decay)",
            )
        if counted is None:
            raise ConfigError(
                f"A state of {found.source} does not say how many steps it has counted",
                fix="pass steps=...",
            )
        apply_plain_state(self, {"shadow": found.tensors, "num_updates": counted})
        self.clock = Clock(counted, 0)
        return found.source

    def capture_component(self, name: str) -> ComponentState:
        """See `SavesItself`: the first average, stored as a model, and the counters."""
        return StoredAverage(self, self._shadows.averages[0]).capture_component(name)

    def plan_component(
        self,
        stored: StoredComponent,
        *,
        strict: bool = True,
        only: Callable[[str], bool] | None = None,
    ) -> RestorePlan:
        """See `SavesItself`. Raises AverageError while an average is swapped in."""
        first = StoredAverage(self, self._shadows.averages[0])
        return first.plan_component(stored, strict=strict, only=only)

    def start_afresh(self) -> None:
        """See `SavesItself`."""
        self.reset()

    def announced_tensors(self) -> Iterable[Tensor]:
        """See `SavesItself`: every average."""
        return [tensor for average in self._shadows.averages for tensor in average.shadow.values()]

    def companions(self) -> Mapping[str, SavesItself]:
        """See `SavesItself`: every average but the first, named "-2", "-3", ... or "-segment"."""
        return {
            "-segment" if isinstance(average.schedule, SegmentMean) else f"-{place}": StoredAverage(
                self, average
            )
            for place, average in enumerate(self._shadows.averages[1:], start=2)
        }


def _schedules(decay: float | Schedule | Sequence[float | Schedule]) -> list[Schedule]:
    wanted = [decay] if isinstance(decay, (int, float, Schedule)) else list(decay)
    schedules = [one if isinstance(one, Schedule) else ConstantDecay(float(one)) for one in wanted]
    if not schedules or any(isinstance(one, SegmentMean) for one in schedules):
        raise ConfigError(
            "There must be at least one average besides the segment means",
            fix="give a decay, and segment_means=True for segment means",
        )
    if len(set(schedules)) < len(schedules):
        raise ConfigError("Two averages have the same schedule", fix="leave one of them out")
    return schedules


def _check_options(
    update_every: object, buffers: object, dtype: torch.dtype | None, swap: object
) -> None:
    _whole("update_every", update_every, least=1)
    if buffers not in ("copy", "average", "ignore"):
        raise ConfigError(f"buffers is {buffers!r}", fix='use "copy", "average" or "ignore"')
    if swap not in ("auto", "pointer", "copy"):
        raise ConfigError(f"swap is {swap!r}", fix='use "auto", "pointer" or "copy"')
    if dtype not in (None, torch.float32, torch.float64):
        raise ConfigError(
            f"An average in {dtype} would stand still: its updates are smaller than its rounding",
            fix="use torch.float32 (the default for such models) or torch.float64",
        )


def _whole(name: str, value: object, *, least: int) -> int:
    if type(value) is not int or value < least:
        raise ConfigError(f"{name} is {value!r}", fix=f"give a whole number of at least {least}")
    return value
