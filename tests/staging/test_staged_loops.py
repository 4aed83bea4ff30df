"""Snapshots of loops that do more than step: compile, announce writes, grow, fail, use devices."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, cast

import pytest
import torch
from staging_helpers import (
    HeldCopier,
    edit_data,
    forget_compiling,
    layers,
    proven,
    same,
    step,
    take,
    values,
)
from torch import nn

from holdfast.errors import UnsavableError
from holdfast.staging import Stager, before_write, step_only_memory
from holdfast.tensorfile import plan_file


@pytest.fixture
def compiling() -> Iterator[None]:
    """Nothing looks compiled afterwards."""
    yield
    forget_compiling()


@pytest.mark.usefixtures("compiling")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_model_overlaps_as_any_other() -> None:
    """What is compiled is the forward pass; the step announces itself."""
    model = layers()
    optimizer = torch.optim.AdamW(model.parameters())
    run = cast("nn.Module", torch.compile(model, backend="eager"))
    stager = Stager()
    overlapped = []
    for _ in range(3):
        step(run, optimizer)
        expected = values(model, optimizer)
        snapshot = take(stager, run, optimizer)
        overlapped.append(snapshot.overlapped)
        step(run, optimizer)
        snapshot.finish()
        snapshot.prove()
        assert same(snapshot, expected)
        snapshot.release()
    assert overlapped == [False, True, True]
    stager.close()


def test_twins_of_a_run_lie_one_right_after_the_other() -> None:
    """In the order asked for, so that a file can be written from where they lie."""
    tensors = [torch.ones(5), torch.ones(3, dtype=torch.float64), torch.ones(7), torch.ones(0)]
    stager = Stager()
    snapshot = stager.take(tensors, ["a", "b", "c", "d"], runs=lambda: [[1, 0, 3, 2]])
    places = [snapshot.tensors[i].data_ptr() for i in (1, 0, 2)]
    assert [place - places[0] for place in places] == [0, 24, 44]
    assert same(snapshot, tensors)
    snapshot.release()
    stager.close()


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_state_without_a_single_byte_is_staged(count: int) -> None:
    """No tensors, or empty ones only, take no memory."""
    stager = Stager()
    snapshot = stager.take([torch.empty(0, 3)] * count, ["a"] * count)
    assert [tuple(twin.shape) for twin in snapshot.tensors] == [(0, 3)] * count
    assert stager.nbytes == 0
    snapshot.release()
    stager.close()


def test_memory_follows_a_state_that_grows_and_shrinks() -> None:
    """Parameters that come between saves are staged, and memory of those that went is freed."""
    stager = Stager()
    for count in (1, 3, 2):
        tensors = [torch.full((40_000,), float(i)) for i in range(count)]
        snapshot = stager.take(tensors, [str(i) for i in range(count)])
        assert same(snapshot, tensors)
        assert 160_000 * count <= stager.nbytes < 160_000 * count + 3 * 4096
        snapshot.release()
    stager.close()


def test_a_save_that_fails_at_once_does_not_trip_the_step() -> None:
    """The step may be looking at the snapshot at the moment its memory is given back."""
    model = layers()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    step(model, optimizer)
    copier = HeldCopier()
    stager = proven(copier)
    snapshot = take(stager, model, optimizer)
    failed: list[BaseException] = []

    def train() -> None:
        try:
            step(model, optimizer)
        except BaseException as error:  # noqa: BLE001 - shown to the test
            failed.append(error)

    training = threading.Thread(target=train)
    training.start()
    release = threading.Thread(target=snapshot.release)
    release.start()
    training.join(0.05)
    copier.go.set()
    training.join(30)
    release.join(30)
    assert failed == []
    stager.close()


def test_an_announced_write_waits_for_the_copy_and_is_no_tear() -> None:
    """Who says before that it writes does not cost a save, nor the loop its overlap."""
    model = layers()
    optimizer = torch.optim.AdamW(model.parameters())
    step(model, optimizer)
    copier = HeldCopier()
    stager = proven(copier)
    expected = values(model, optimizer)
    snapshot = take(stager, model, optimizer)
    assert snapshot.overlapped

    def write() -> None:
        before_write()
        edit_data(model, optimizer)

    writing = threading.Thread(target=write)
    writing.start()
    writing.join(0.05)
    assert writing.is_alive()
    copier.go.set()
    writing.join(30)
    step(model, optimizer)
    snapshot.finish()
    snapshot.prove()
    assert same(snapshot, expected)
    assert stager.overlap.allowed
    snapshot.release()
    stager.close()


def test_an_announced_write_after_the_first_save_decides_nothing() -> None:
    """The loop is neither trusted nor distrusted for it; the next save looks again."""
    model = layers()
    optimizer = torch.optim.AdamW(model.parameters())
    stager = Stager()
    overlapped = []
    for announced in (True, False, False):
        step(model, optimizer)
        snapshot = take(stager, model, optimizer)
        overlapped.append(snapshot.overlapped)
        if announced:
            before_write()
            edit_data(model, optimizer)
        snapshot.finish()
        snapshot.release()
    step(model, optimizer)
    assert overlapped == [False, False, True]
    stager.close()


def test_tensors_without_memory_are_refused_where_they_are_named() -> None:
    """A model on the meta device has nothing to save."""
    with pytest.raises(UnsavableError, match="weight"):
        plan_file(nn.Linear(2, 2, device="meta").state_dict(), {})


@pytest.mark.cuda
def test_models_on_several_devices_are_staged_as_one() -> None:
    """Tensors of each device are copied on a stream of its own; the step waits for all."""
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    model = layers()
    model[1].cuda()
    for kind in ({"fused": True}, {"foreach": True}, {"capturable": True}):
        parts = [[*model[0].parameters(), *model[2].parameters()], [*model[1].parameters()]]
        options: list[dict[str, Any]] = [{**kind, "capturable": False}, kind]
        optimizers = [torch.optim.AdamW(p, **o) for p, o in zip(parts, options, strict=True)]
        for parameter in model.parameters():
            parameter.grad = torch.randn_like(parameter)
        stager = Stager()
        for number in range(3):
            for optimizer in optimizers:
                optimizer.step()
            tensors = [p.detach() for p in model.parameters()]
            wanted = [tensor.clone() for tensor in tensors]
            found = step_only_memory(optimizers, [model])
            snapshot = stager.take(tensors, [str(i) for i in range(len(tensors))], found)
            assert snapshot.overlapped == (number > 0)
            for optimizer in optimizers:
                optimizer.step()
            snapshot.finish()
            snapshot.prove()
            assert same(snapshot, [tensor.cpu() for tensor in wanted])
            snapshot.release()
        stager.close()
