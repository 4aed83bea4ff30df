"""Over random schedules, what is saved beside training is what stopping it would have saved."""

from __future__ import annotations

import copy
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from staging_helpers import NoGate, SlowCopier
from torch import Tensor, nn

from holdfast import EMAModel
from holdfast.engine.save import SaveRequest, save_checkpoint
from holdfast.engine.staging import StagedComponents, stage_components
from holdfast.errors import TornSnapshotError
from holdfast.manifest import FileRecord
from holdfast.session import LiveObjects, capture_session
from holdfast.staging import Stager, StepGate, step_only_memory
from holdfast.storage import MemoryRun
from holdfast.values import SaveReason

WIDTH = 128


class Average:
    """An exponential average of the weights, as training scripts write them."""

    def __init__(self, model: nn.Module) -> None:
        self.shadow = {name: p.detach().clone() for name, p in model.named_parameters()}

    def update(self, model: nn.Module) -> None:
        """Move towards the weights, past the version counters."""
        for name, parameter in model.named_parameters():
            self.shadow.setdefault(name, parameter.detach().clone())
            self.shadow[name].data.mul_(0.9).add_(parameter.data, alpha=0.1)

    def state_dict(self) -> dict[str, Any]:
        """The averages."""
        return dict(self.shadow)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Not needed here."""


class Loop:
    """A training loop of which every statement can be called by itself."""

    def __init__(self, kind: str, stager: Stager) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(
            nn.Linear(WIDTH, WIDTH),
            nn.BatchNorm1d(WIDTH),
            nn.Dropout(0.1),
            nn.Linear(WIDTH, WIDTH),
            nn.Linear(WIDTH, WIDTH),
        )
        own = self.model[4].parameters() if kind == "two" else []
        shared = [p for p in self.model.parameters() if all(p is not o for o in [*own])]
        self.optimizers = [self._optimizer(kind, shared)]
        self.stager = stager
        self.objects = LiveObjects(self.model, self.optimizers[0])
        if kind == "two":
            self.optimizers.append(torch.optim.SGD(self.model[4].parameters(), lr=0.1))
            self.objects.register("second", self.optimizers[1])
        self.average = Average(self.model)
        self.objects.register("average", self.average)
        self.attached = EMAModel(self.model, [0.9, 0.5])
        self.attached.attach(self.optimizers[-1])
        self.objects.register("attached", self.attached)
        self.copied = EMAModel(self.model, 0.8, swap="copy")
        self.objects.register("copied", self.copied)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=3)
        self.objects.scaler = self.scaler
        self.pending: list[tuple[StagedComponents, dict[str, FileRecord], int]] = []
        self.saves = 0
        self.overlapped = 0

    @staticmethod
    def _optimizer(kind: str, parameters: Any) -> torch.optim.Optimizer:
        if kind == "loop":
            return torch.optim.SGD(parameters, lr=0.1, momentum=0.9, foreach=False)
        return torch.optim.AdamW(parameters, foreach=kind == "foreach", fused=kind == "fused")

    def forward(self) -> Tensor:
        """BatchNorm and the random state move."""
        loss: Tensor = self.model(torch.randn(8, WIDTH)).square().mean()
        return loss

    def backward(self) -> None:
        """Gradients accumulate."""
        loss = self.scaler.scale(self.forward())
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]

    def step(self) -> None:
        """An optimizer step, through the scaler."""
        if any(p.grad is not None for p in self.model.parameters()):
            for optimizer in self.optimizers:
                if any(p.grad is not None for g in optimizer.param_groups for p in g["params"]):
                    self.scaler.step(optimizer)
            self.scaler.update()

    def skipped_step(self) -> None:
        """Gradients overflow: the scaler skips the step."""
        self.backward()
        for parameter in self.model.parameters():
            if parameter.grad is not None:
                parameter.grad.fill_(float("inf"))
        self.step()
        self.zero()

    def zero(self) -> None:
        """Gradients go."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)

    def freeze(self) -> None:
        """Freeze a layer, or thaw it."""
        for parameter in self.model[3].parameters():
            parameter.requires_grad_(not parameter.requires_grad)

    def grow(self) -> None:
        """A parameter joins, in the model and in the optimizer."""
        if len(self.model) < 8:
            layer = nn.Linear(WIDTH, WIDTH)
            self.model.append(layer)
            self.optimizers[0].add_param_group({"params": list(layer.parameters())})

    def move_average(self) -> None:
        """The average moves."""
        self.average.update(self.model)

    def move_ema(self) -> None:
        """The average that is updated by hand moves."""
        self.copied.update()

    def evaluate(self) -> None:
        """Each average is evaluated in the model, by pointer and by copy."""
        for average in (self.attached, self.copied):
            with average.applied(initial=True), torch.no_grad():
                self.model.eval()
                self.forward()
                self.model.train()

    def save_swapped(self) -> None:
        """Save while an average is in the place of the weights."""
        for average in (self.attached, self.copied):
            with average.applied(initial=True):
                self.save()

    def save(self) -> None:
        """Save beside training, and note what stopping it would have saved."""
        self.finish(keep=0)
        self.saves += 1
        components = capture_session(self.objects, {"saves": self.saves})
        expected = MemoryRun()
        wanted = save_checkpoint(expected, self._request(components, self.saves))
        optimizers = (optimizer for _, optimizer in self.objects.optimizers())
        modules = (module for _, module in self.objects.modules())
        late = step_only_memory(optimizers, modules, self.objects.announced_tensors())
        staged = stage_components(self.stager, components, late)
        self.overlapped += staged.snapshot.overlapped
        self.pending.append((staged, dict(wanted.manifest.files), self.saves))

    def finish(self, keep: int = 0) -> None:
        """Write pending saves and hold them against what stopping would have saved."""
        while len(self.pending) > keep:
            staged, wanted, number = self.pending.pop(0)
            try:
                staged.snapshot.finish()
                request = self._request(staged.components, number)
                written = save_checkpoint(MemoryRun(), request, proof=staged.snapshot.prove)
                assert dict(written.manifest.files) == wanted
            finally:
                staged.snapshot.release()

    @staticmethod
    def _request(components: Any, number: int) -> SaveRequest:
        return SaveRequest(
            epoch=0,
            global_step=number,
            branch=0,
            sequence=number,
            time=0.0,
            reason=SaveReason("manual", "a test"),
            components=components,
            metrics={},
            directions={},
        )


STATEMENTS = [
    *("save", "save", "backward", "step", "step", "forward", "zero", "skipped_step"),
    *("freeze", "grow", "move_average", "finish", "move_ema", "evaluate", "save_swapped"),
]
KINDS = ["foreach", "fused", "loop", "two"]


def run(kind: str, schedule: list[str], pause: float, gate: StepGate | None = None) -> Loop:
    """Run the statements; every save is checked when the next begins and at the end."""
    stager = Stager(copier=SlowCopier(pause), gate=gate)
    if gate is not None:
        stager.overlap.conclude([])
    loop = Loop(kind, stager)
    try:
        for statement in schedule:
            getattr(loop, statement)()
        loop.finish()
    finally:
        stager.close()
    return loop


@settings(deadline=None, max_examples=40)
@given(
    kind=st.sampled_from(KINDS),
    schedule=st.lists(st.sampled_from(STATEMENTS), max_size=24),
    pause=st.sampled_from([0.0, 0.0003, 0.001]),
)
def test_a_save_beside_training_is_the_save_of_training_stopped(
    kind: str, schedule: list[str], pause: float
) -> None:
    """Digest for digest the same, with BatchNorm, averages, skipped steps and growing models."""
    start = ["backward", "step", "save", "backward", "step"]
    run(kind, start + schedule, pause)


@pytest.mark.soak
@pytest.mark.timeout(7200)
@settings(deadline=None, max_examples=5000)
@given(
    kind=st.sampled_from(KINDS),
    schedule=st.lists(st.sampled_from(STATEMENTS), max_size=60),
    pause=st.sampled_from([0.0, 0.0003, 0.001, 0.003]),
)
def test_thousands_of_schedules(kind: str, schedule: list[str], pause: float) -> None:
    """The same over thousands of longer schedules."""
    run(kind, ["backward", "step", "save", "backward", "step", *schedule], pause)


PLAIN = ["backward", "step", "save", "backward", "step"] * 6


@pytest.mark.parametrize("kind", KINDS)
def test_a_plain_loop_overlaps_all_saves_but_the_first(kind: str) -> None:
    """The schedules above do exercise overlap."""
    loop = run(kind, PLAIN, 0.0003)
    assert (loop.saves, loop.overlapped) == (6, 5)


@pytest.mark.parametrize("kind", KINDS)
def test_without_the_hook_the_same_loop_tears_and_is_refused(kind: str) -> None:
    """The protective hook is what makes it so: without it every kind of step is caught tearing."""
    with pytest.raises(TornSnapshotError):
        run(kind, PLAIN, 0.002, gate=NoGate())


def test_without_hook_and_proof_a_torn_state_would_be_written() -> None:
    """The proof is not empty: what it refuses differs from the state at the save."""
    stager = Stager(copier=SlowCopier(0.002), gate=NoGate())
    stager.overlap.conclude([])
    loop = Loop("fused", stager)
    for statement in ["backward", "step", "save", "backward", "step"]:
        getattr(loop, statement)()
    staged, wanted, number = loop.pending.pop()
    staged.snapshot.finish()
    request = Loop._request(copy.copy(staged.components), number)
    assert dict(save_checkpoint(MemoryRun(), request).manifest.files) != wanted
    staged.snapshot.release()
    stager.close()
