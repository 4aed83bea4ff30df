"""A model saved inside a wrapper and loaded outside of it, and the other way round."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from manager_helpers import Session, new_manager, new_session, same
from safetensors.torch import load_file
from torch import distributed, nn
from torch._C._distributed_c10d import HashStore
from torch.nn.parallel import DistributedDataParallel


@pytest.fixture(scope="module", autouse=True)
def one_process_group() -> Iterator[None]:
    """A process group of this process alone."""
    distributed.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def compiled(module: nn.Module) -> nn.Module:
    """The wrapper torch.compile gives."""
    wrapper: Any = torch.compile(module, backend="eager")
    assert isinstance(wrapper, nn.Module)
    return wrapper


WRAPPINGS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "plain": lambda module: module,
    "ddp": DistributedDataParallel,
    "compiled_ddp": lambda module: DistributedDataParallel(compiled(module)),
}


def session(wrapping: str, seed: int) -> Session:
    """A session whose model is wrapped; the optimizer has the parameters inside."""
    made = new_session(seed)
    made.model = WRAPPINGS[wrapping](made.model)
    return made


def bare(found: Session) -> dict[str, Any]:
    """Its state, under the names without wrappers."""
    state = found.state()
    renamed = {
        name.replace("module.", "").replace("_orig_mod.", ""): value
        for name, value in state["model"].items()
    }
    return {**state, "model": renamed}


@pytest.mark.parametrize(
    ("there", "here"),
    [(a, b) for a in WRAPPINGS for b in WRAPPINGS if a != b] + [("ddp", "ddp")],
)
def test_wrapped_and_bare_models_take_each_others_checkpoints(
    tmp_path: Path, there: str, here: str
) -> None:
    """Weights and optimizer come back bit for bit, and training goes on alike."""
    first = session(there, 0)
    first.step()
    path = new_manager(tmp_path, first).save(0, 1)
    assert path is not None
    assert not any("module" in name for name in load_file(path / "model.safetensors"))
    second = session(here, 1)
    second.step()
    new_manager(tmp_path, second).load()
    assert same(bare(first), bare(second))
    for each in (first, second):
        torch.manual_seed(5)
        each.step()
    assert same(bare(first), bare(second))
