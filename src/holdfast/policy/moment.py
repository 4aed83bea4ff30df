"""The moment at which a trigger or a stopping rule is asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from holdfast.policy import _checks


@dataclass(frozen=True, slots=True)
class Measurement:
    """A metric's value and the global step of the weights it was measured on."""

    value: float
    step: int


def measured(metrics: Mapping[str, float], step: int) -> dict[str, Measurement]:
    """`metrics`, all measured at global step `step`."""
    return {name: Measurement(value, step) for name, value in metrics.items()}


@dataclass(frozen=True, slots=True)
class Moment:
    """What a policy may know of the running training.

    global_step: optimizer steps since the run began. epoch: epochs completed since the run began
    (a loop over `range(epochs)` has completed `epoch + 1` at the end of its body). now: seconds
    since the epoch, UTC. metrics: the last measurement of each metric, however old. requested: who
    asked for a save ("SIGUSR1", "the file save-now"), or None. exiting: why training is about to
    end ("SIGTERM", "KeyboardInterrupt"), or None. Raises PolicyError for a negative or fractional
    step or epoch, or a time that is not finite.
    """

    global_step: int
    epoch: int
    now: float
    metrics: Mapping[str, Measurement] = field(default_factory=lambda: MappingProxyType({}))
    requested: str | None = None
    exiting: str | None = None

    def __post_init__(self) -> None:
        _checks.whole_number(self.global_step, name="global_step", at_least=0)
        _checks.whole_number(self.epoch, name="epoch", at_least=0)
        _checks.finite_number(self.now, name="now")

    def fresh(self, metric: str) -> float | None:
        """The value of `metric` if it was measured on the weights of this very step, else None.

        A value from another step describes other weights: ranking it here would credit this
        checkpoint with the score of an older one (Lightning-AI/pytorch-lightning#20185).
        """
        measurement = self.metrics.get(metric)
        if measurement is None or measurement.step != self.global_step:
            return None
        return measurement.value

    def explain_lack(self, metric: str) -> str:
        """Why `fresh(metric)` is None, as a clause."""
        measurement = self.metrics.get(metric)
        if measurement is None:
            return f"{metric} has not been measured"
        return f"{metric} was measured at step {measurement.step}, not at {self.global_step}"
