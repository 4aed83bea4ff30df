"""Files whose tensors are asked for one at a time."""

from __future__ import annotations

import weakref

import pytest
import torch
from torch import Tensor

from holdfast.digest import raw_digest
from holdfast.engine.save import SaveRequest, save_checkpoint
from holdfast.engine.state_file import ComponentEntry
from holdfast.engine.streamed import StreamedFile, save_streamed
from holdfast.errors import DamagedError
from holdfast.jsontext import Json
from holdfast.state import ComponentState, StoredTensor
from holdfast.storage import MemoryRun
from holdfast.values import SaveReason

_TREE: Json = {}


def _request(*components: ComponentState) -> SaveRequest:
    return SaveRequest(
        epoch=0,
        global_step=1,
        branch=0,
        sequence=0,
        time=1.8e9,
        reason=SaveReason("manual", "a test"),
        components=components,
        metrics={},
        directions={},
        id="ab" * 16,
    )


def _tensors() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {
        "large": torch.randn(700, 600),
        "image": torch.randn(2, 3, 40, 50).to(memory_format=torch.channels_last),
        "complex": torch.randn(7, dtype=torch.complex128),
        "half": torch.randn(9).bfloat16(),
        "nothing": torch.zeros(0, 4),
        "scalar": torch.tensor(3),
        **{f"small{number}": torch.randn(90, 90) for number in range(60)},
    }


def _facts(tensors: dict[str, Tensor]) -> dict[str, StoredTensor]:
    order = {"image": (0, 2, 3, 1)}
    return {n: StoredTensor(t.dtype, tuple(t.shape), order.get(n)) for n, t in tensors.items()}


def test_the_checkpoint_is_that_of_a_save() -> None:
    """Every file but the manifest is byte for byte what a save of tensors in memory writes."""
    tensors = _tensors()
    saved, streamed = MemoryRun(), MemoryRun()
    component = ComponentState("model", "module", _TREE, tensors)
    name = save_checkpoint(saved, _request(component)).name
    file = StreamedFile.laid_out(_facts(tensors), tensors.__getitem__)
    seen: list[tuple[int, int]] = []
    save_streamed(
        streamed,
        _request(),
        [ComponentEntry("model", "module", "model.safetensors", _TREE)],
        {"model.safetensors": file},
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen[-1] == (file.plan.total_bytes, file.plan.total_bytes)
    with saved.open(name) as one, streamed.open(name) as other:
        assert sorted(one.files()) == sorted(other.files())
        for path in one.files():
            assert one.read_bytes(path, 1 << 30) == other.read_bytes(path, 1 << 30), path


def test_tensors_are_let_go() -> None:
    """While a tensor is asked for, at most the one before is still there."""
    alive: list[weakref.ref[Tensor]] = []

    def read(name: str) -> Tensor:
        assert sum(ref() is not None for ref in alive) <= 1
        tensor = torch.full((300, 600), float(name))
        alive.append(weakref.ref(tensor))
        return tensor

    facts = {str(n): StoredTensor(torch.float32, (300, 600)) for n in range(20)}
    file = StreamedFile.laid_out(facts, read)
    assert sum(len(block) for block in file.blocks()) == file.plan.total_bytes
    assert len(alive) == len(file.digests) == 20
    assert file.digests["3"] == raw_digest(torch.full((300, 600), 3.0).numpy().data)


def test_a_tensor_that_cannot_be_read_ends_it() -> None:
    """What reading raises passes through, and nothing becomes visible."""
    run = MemoryRun()

    def read(name: str) -> Tensor:
        raise DamagedError("the bits are flipped")

    file = StreamedFile.laid_out({"w": StoredTensor(torch.float32, (3,))}, read)
    entry = ComponentEntry("model", "module", "model.safetensors", _TREE)
    with pytest.raises(DamagedError, match="flipped"):
        save_streamed(run, _request(), [entry], {"model.safetensors": file})
    assert run.names() == []
