"""Snapshots hold what was there when they were asked for, or say that they do not."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from staging_helpers import (
    HeldCopier,
    NoGate,
    edit_data,
    forget_compiling,
    layers,
    live,
    proven,
    same,
    step,
    take,
    values,
)
from torch import Tensor, nn

from holdfast.errors import TornSnapshotError
from holdfast.staging import Copier, Stager, step_only_memory
from holdfast.tensorfile import describe

DTYPES = [
    *(torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.bool),
    *(torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8, torch.uint16, torch.uint64),
    *(torch.complex64, torch.complex128),
    *(torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e8m0fnu),
]


def odd_tensors(dtype: torch.dtype) -> list[Tensor]:
    """Tensors of every layout: dense in several orders, with gaps, overlapping, empty, 0-d."""
    raw = torch.arange(4 * 6 * 8 * 16, dtype=torch.int64).to(torch.uint8)
    if dtype is torch.bool:
        raw %= 2
    block = raw[: 4 * 6 * 8 * dtype.itemsize].view(dtype).view(4, 6, 8)
    return [
        block,
        block.permute(2, 0, 1),
        block[:, 1:5:2],
        block[0, 0, :1].expand(7, 1),
        block[1, 2, 3],
        block[:0],
        block.as_strided((3, 1, 8), (48, 999, 1)),
    ]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_layout_is_staged_as_it_would_be_written(dtype: torch.dtype) -> None:
    """Twins have the values, and the memory order where it is one that a file records."""
    tensors = odd_tensors(dtype)
    with_stager = Stager()
    snapshot = with_stager.take(tensors, [str(i) for i in range(len(tensors))])
    assert same(snapshot, tensors)
    for twin, tensor in zip(snapshot.tensors, tensors, strict=True):
        assert twin.dtype == tensor.dtype
        assert describe(twin) == describe(tensor)
        assert twin.numel() == 0 or twin.data_ptr() != tensor.data_ptr()
    with_stager.close()


def test_memory_is_used_again_and_not_before_it_is_released() -> None:
    """A second snapshot waits for the first one's memory, and then gets the same."""
    stager = Stager()
    first = stager.take([torch.ones(1000)], ["a"])
    place = first.tensors[0].data_ptr()
    got: list[Any] = []
    thread = threading.Thread(target=lambda: got.append(stager.take([torch.zeros(1000)], ["a"])))
    thread.start()
    thread.join(0.05)
    assert not got
    assert first.tensors[0].eq(1).all()
    first.release()
    thread.join(30)
    assert got[0].tensors[0].data_ptr() == place
    assert got[0].tensors[0].eq(0).all()
    got[0].release()
    stager.close()


def test_several_snapshots_exist_if_asked_for() -> None:
    """snapshots_max copies of the state may be held at a time."""
    stager = Stager(snapshots_max=2)
    first = stager.take([torch.ones(10)], ["a"])
    second = stager.take([torch.zeros(10)], ["a"])
    assert first.tensors[0].eq(1).all()
    assert second.tensors[0].eq(0).all()
    first.release()
    second.release()
    first.release()
    stager.close()


def test_the_first_snapshot_of_a_loop_is_whole_and_later_ones_overlap() -> None:
    """Overlap is earned by a step that announced itself with nothing changed before it."""
    model = layers()
    optimizer = torch.optim.AdamW(model.parameters())
    stager = Stager()
    overlapped = []
    for _ in range(3):
        step(model, optimizer)
        expected = values(model, optimizer)
        snapshot = take(stager, model, optimizer)
        overlapped.append(snapshot.overlapped)
        step(model, optimizer)
        snapshot.finish()
        snapshot.prove()
        assert same(snapshot, expected)
        snapshot.release()
    assert overlapped == [False, True, True]
    stager.close()


def optimizers() -> list[tuple[str, Callable[[Any], torch.optim.Optimizer]]]:
    """Optimizers that differ in how they write parameters."""
    return [
        ("foreach", lambda p: torch.optim.AdamW(p, foreach=True)),
        ("loop", lambda p: torch.optim.AdamW(p, foreach=False)),
        ("fused", lambda p: torch.optim.AdamW(p, fused=True)),
        ("fused-sgd", lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, fused=True)),
        ("adagrad", lambda p: torch.optim.Adagrad(p)),
    ]


@pytest.mark.parametrize("kind", [name for name, _ in optimizers()])
def test_a_step_waits_for_the_copy(kind: str) -> None:
    """No optimizer changes a tensor before it is copied, whichever way it writes."""
    model = layers()
    optimizer = dict(optimizers())[kind](model.parameters())
    step(model, optimizer)
    copier = HeldCopier()
    stager = proven(copier)
    expected = values(model, optimizer)
    snapshot = take(stager, model, optimizer)
    assert snapshot.overlapped
    stepping = threading.Thread(target=step, args=(model, optimizer))
    stepping.start()
    stepping.join(0.05)
    assert stepping.is_alive()
    copier.go.set()
    stepping.join(30)
    snapshot.finish()
    snapshot.prove()
    assert same(snapshot, expected)
    assert not all(map(torch.equal, expected, live(model, optimizer).values()))
    snapshot.release()
    stager.close()


def test_lbfgs_with_its_closure_waits_too() -> None:
    """A step that evaluates the model several times is one step."""
    model = layers()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=3)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss: Tensor = model(torch.ones(4, 128)).square().mean()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    stager = proven(Copier(1))
    expected = values(model, optimizer)
    snapshot = take(stager, model, optimizer)
    optimizer.step(closure)  # type: ignore[no-untyped-call]
    snapshot.finish()
    snapshot.prove()
    assert same(snapshot, expected)
    snapshot.release()
    stager.close()


def edit_in_place(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Clip the weights."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.clamp_(-0.01, 0.01)


def edit_numpy(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Write through a NumPy view."""
    for parameter in model.parameters():
        parameter.detach().numpy()[...] = 7


def edit_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Reset the moments."""
    for state in optimizer.state.values():
        state["exp_avg"].zero_()


EDITS = [edit_in_place, edit_data, edit_numpy, edit_state]


@pytest.mark.parametrize("edit", EDITS)
def test_edits_beside_the_copy_are_refused(
    edit: Callable[[nn.Module, torch.optim.Optimizer], None],
) -> None:
    """What was overwritten before it was copied is never taken for the state at the save."""
    model = layers()
    optimizer = torch.optim.AdamW(model.parameters())
    step(model, optimizer)
    copier = HeldCopier()
    stager = proven(copier)
    snapshot = take(stager, model, optimizer)
    edit(model, optimizer)
    copier.go.set()
    step(model, optimizer)
    snapshot.finish()
    with pytest.raises(TornSnapshotError, match="changed while being copied"):
        snapshot.prove()
    snapshot.release()
    stager.close()


def test_a_swap_that_was_undone_is_refused() -> None:
    """Averaged weights swapped in through .data, copied, and swapped out again do not pass."""
    model = layers()
    optimizer = torch.optim.AdamW(model.parameters())
    step(model, optimizer)
    copier = HeldCopier()
    stager = proven(copier)
    snapshot = take(stager, model, optimizer)
    kept = [parameter.detach().clone() for parameter in model.parameters()]
    edit_data(model, optimizer)
    copier.go.set()
    snapshot.finish()
    for parameter, value in zip(model.parameters(), kept, strict=True):
        parameter.data.copy_(value)
    step(model, optimizer)
    with pytest.raises(TornSnapshotError):
        snapshot.prove()
    snapshot.release()
    stager.close()


@pytest.mark.parametrize("edit", EDITS)
def test_a_loop_that_edits_weights_never_overlaps(
    edit: Callable[[nn.Module, torch.optim.Optimizer], None],
) -> None:
    """Watching the first save finds the habit; nothing is lost and nothing overlaps after."""
    model = layers()
    optimizer = torch.optim.AdamW(model.parameters())
    stager = Stager()
    for _ in range(3):
        step(model, optimizer)
        expected = values(model, optimizer)
        snapshot = take(stager, model, optimizer)
        assert not snapshot.overlapped
        edit(model, optimizer)
        step(model, optimizer)
        snapshot.finish()
        snapshot.prove()
        assert same(snapshot, expected)
        snapshot.release()
    assert "no overlap" in str(stager.overlap.verdict)
    stager.close()


def test_a_step_that_does_not_announce_itself_gets_no_overlap() -> None:
    """Compiled steps and replayed graphs call no hook: the loop is seen to change all the same."""
    model = layers()
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    stager = Stager(gate=NoGate())
    for _ in range(3):
        step(model, optimizer)
        snapshot = take(stager, model, optimizer)
        assert not snapshot.overlapped
        snapshot.release()
    assert "no optimizer announced" in str(stager.overlap.verdict)
    stager.close()


def test_without_the_hook_a_fused_step_beside_the_copy_is_refused() -> None:
    """Fused kernels move no version counter, but the samples show the tear."""
    model = layers()
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    step(model, optimizer)
    copier = HeldCopier()
    stager = proven(copier, NoGate())
    snapshot = take(stager, model, optimizer)
    step(model, optimizer)
    copier.go.set()
    snapshot.finish()
    with pytest.raises(TornSnapshotError):
        snapshot.prove()
    snapshot.release()
    stager.close()


def test_storage_that_was_replaced_is_copied_as_it_was() -> None:
    """`parameter.data = other` leaves the old memory to the snapshot."""
    model = layers()
    optimizer = torch.optim.AdamW(model.parameters())
    step(model, optimizer)
    copier = HeldCopier()
    stager = proven(copier)
    expected = values(model, optimizer)
    snapshot = take(stager, model, optimizer)
    for parameter in model.parameters():
        parameter.data = torch.zeros_like(parameter)
    optimizer.load_state_dict(optimizer.state_dict())
    copier.go.set()
    snapshot.finish()
    snapshot.prove()
    assert same(snapshot, expected)
    snapshot.release()
    stager.close()


def test_only_what_steps_change_may_be_copied_late() -> None:
    """Buffers, what shares their memory, tensor learning rates and small tensors are not."""
    model = layers(4)
    linear = [layer for layer in model if isinstance(layer, nn.Linear)]
    model.register_buffer("shared", linear[3].weight.detach())
    linear[1].weight.requires_grad_(False)
    rate = torch.tensor(1e-3)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, foreach=False)
    step(model, optimizer)
    found = step_only_memory([optimizer], [model])
    weights = [layer.weight.data_ptr() in found for layer in linear]
    assert weights == [True, True, True, False]
    assert rate.data_ptr() not in found
    assert linear[0].bias.data_ptr() not in found
    state = optimizer.state[linear[0].weight]
    assert state["exp_avg"].data_ptr() in found
    assert state["step"].data_ptr() not in found


@pytest.fixture
def compiling() -> Iterator[None]:
    """Nothing looks compiled afterwards."""
    yield
    forget_compiling()


@pytest.mark.usefixtures("compiling")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_step_is_traced_without_the_hook_and_gets_no_overlap() -> None:
    """torch.compile of the step works as before, fullgraph or not, and is found out."""
    model = layers()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    stager = Stager()
    compiled = torch.compile(optimizer.step, backend="eager")
    for _ in range(3):
        model(torch.randn(4, 128)).square().mean().backward()
        snapshot = take(stager, model, optimizer)
        assert not snapshot.overlapped
        compiled()
        optimizer.zero_grad()
        snapshot.release()
    stager.close()


def test_a_forked_child_steps_without_waiting_for_its_parent() -> None:
    """Its tensors are copies of its own, and no thread copies there."""
    model = layers()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    step(model, optimizer)
    copier = HeldCopier()
    stager = proven(copier)
    snapshot = take(stager, model, optimizer)
    assert snapshot.overlapped
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        optimizer.step()
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    copier.go.set()
    snapshot.finish()
    snapshot.prove()
    snapshot.release()
    stager.close()
