"""Averages on the host that are updated beside training are those updated at once."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from holdfast import CheckpointConfig, CheckpointManager, EMAModel
from holdfast.errors import AverageError
from holdfast.staging.copying import Pair


class LateCopies:
    """Copies that are made as late as is allowed: when a step announces itself, or on `finish`.

    go: what the thread that folds waits for.
    """

    def __init__(self, pairs: Sequence[Pair], go: threading.Event) -> None:
        self._pairs, self._go = list(pairs), go
        self._lock = threading.Lock()

    def hold_training(self) -> None:
        """On a device, later writes would wait; here the copy is made before them."""
        self._copy()

    def finish(self) -> None:
        """Wait, and have it made."""
        assert self._go.wait(60)
        self._copy()

    def _copy(self) -> None:
        with self._lock, torch.no_grad():
            while self._pairs:
                live, place = self._pairs.pop()
                place.copy_(live)


class Device:
    """Begins late copies."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.go.set()
        self.updates = 0

    def begin(self, pairs: Sequence[Pair]) -> list[LateCopies]:
        """Note that there was an update."""
        self.updates += 1
        return [LateCopies(pairs, self.go)]


def trained(
    device: Device | None, steps: int = 7, **options: Any
) -> tuple[nn.Module, torch.optim.Optimizer, EMAModel]:
    """A model with BatchNorm after some steps, averaged at once or beside training."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    ema = EMAModel(model, [0.9, 0.5], **options)
    if device is not None:
        ema._shadows.begin_copies = device.begin
    ema.attach(optimizer)
    for _ in range(steps):
        step(model, optimizer)
    return model, optimizer, ema


def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """One optimizer step."""
    optimizer.zero_grad()
    model(torch.randn(6, 4)).square().mean().backward()
    optimizer.step()


def averages(ema: EMAModel) -> list[Tensor]:
    """Every tensor of every average."""
    return [t for place in (0, 1) for t in ema.averaged_state_dict(place).values()]


@pytest.mark.parametrize("options", [{}, {"buffers": "average"}, {"update_every": 3}])
def test_beside_training_makes_the_same_averages(options: dict[str, Any]) -> None:
    """Bit for bit, buffers that moved in forward meanwhile included."""
    device = Device()
    _, _, beside = trained(device, **options)
    _, _, at_once = trained(None, **options)
    assert device.updates > 0
    for found, wanted in zip(averages(beside), averages(at_once), strict=True):
        assert torch.equal(found, wanted)
    beside.detach()


def test_the_step_does_not_wait_for_the_arithmetic_and_readers_do() -> None:
    """Training goes on while weights are folded; whoever looks at the average gets all of it."""
    device = Device()
    model, optimizer, ema = trained(device)
    averages(ema)
    device.go.clear()
    step(model, optimizer)
    weight = model[0].weight.detach().clone()  # type: ignore[index]
    seen: list[Tensor] = []
    reader = threading.Thread(target=lambda: seen.extend(averages(ema)))
    reader.start()
    reader.join(0.05)
    assert reader.is_alive()
    device.go.set()
    reader.join(30)
    ema.detach()
    assert len(seen) > 0
    assert torch.equal(weight, model[0].weight)  # type: ignore[index]


def test_weights_edited_while_they_are_copied_are_told_of() -> None:
    """A mixture is never taken for an average in silence."""
    device = Device()
    model, optimizer, ema = trained(device)
    averages(ema)
    device.go.clear()
    step(model, optimizer)
    with torch.no_grad():
        model[0].weight.mul_(2)  # type: ignore[index]
    device.go.set()
    with pytest.raises(AverageError, match=r"0\.weight changed"):
        ema.averaged_state_dict()
    ema.detach()


def test_a_checkpoint_holds_the_average_that_was_under_way(tmp_path: Path) -> None:
    """Saving waits for it, and so does loading."""
    found = []
    for device in (Device(), None):
        model, optimizer, ema = trained(device)
        folder = tmp_path / ("beside" if device else "at once")
        manager = CheckpointManager(CheckpointConfig(str(folder)), model, optimizer)
        manager.register("ema", ema)
        manager.save(0, 7, {"val_loss": 1.0})
        step(model, optimizer)
        manager.load()
        manager.close()
        found.append([tensor.clone() for tensor in averages(ema)])
        step(model, optimizer)
        found.append([tensor.clone() for tensor in averages(ema)])
        ema.detach()
    assert all(map(torch.equal, found[0], found[2]))
    assert all(map(torch.equal, found[1], found[3]))


def test_detaching_ends_the_thread() -> None:
    """No thread outlives the hook it works for."""
    before = threading.active_count()
    _, _, ema = trained(Device())
    assert threading.active_count() == before + 1
    ema.detach()
    assert threading.active_count() == before


@pytest.mark.cuda
def test_an_average_on_the_host_of_a_model_on_a_gpu() -> None:
    """The streams and events do what the late copies above stand for."""
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.Linear(512, 512)).cuda()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    host, beside = EMAModel(model, 0.9, device="cpu"), EMAModel(model, 0.9)
    host.attach(optimizer)
    for _ in range(20):
        optimizer.zero_grad()
        model(torch.randn(64, 512, device="cuda")).square().mean().backward()
        optimizer.step()
        beside.update()
    for name, wanted in beside.averaged_state_dict().items():
        found = host.averaged_state_dict()[name]
        torch.testing.assert_close(found.cpu(), wanted.cpu(), rtol=1e-6, atol=1e-6)
    host.detach()
