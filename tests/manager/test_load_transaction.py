"""A load changes everything or nothing, and where it cannot keep to that, it says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from manager_helpers import new_manager, new_session, same
from torch import nn

from holdfast import CheckpointConfig, CheckpointManager
from holdfast.errors import ConfigError, InterruptedLoadError, LoadError, MismatchError


class Shared(nn.Module):
    """Two parameters that are the same memory transposed, or not; and one beside them."""

    def __init__(self, *, shared: bool) -> None:
        super().__init__()
        self.plain = nn.Parameter(torch.randn(3))
        self.left = nn.Parameter(torch.randn(2, 2))
        self.right = nn.Parameter(self.left.detach().t() if shared else torch.randn(2, 2))


def manager_of(folder: Path, model: nn.Module, **objects: Any) -> CheckpointManager:
    """A quiet manager of a model and registered objects."""
    manager = CheckpointManager(CheckpointConfig(str(folder), progress=False), model)
    for name, value in objects.items():
        manager.register(name, value)
    return manager


def test_values_that_contradict_each_other_in_shared_memory_change_nothing(tmp_path: Path) -> None:
    """The load is refused before the parameters beside the shared ones are written."""
    manager_of(tmp_path, Shared(shared=False)).save(0, 1)
    model = Shared(shared=True)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(MismatchError, match="contradict"):
        manager_of(tmp_path, model).load()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_values_that_agree_in_shared_memory_come_back(tmp_path: Path) -> None:
    """A transposed tie saved as such is restored, the parameters beside it as well."""
    saved, model = Shared(shared=True), Shared(shared=True)
    manager_of(tmp_path, saved).save(0, 1)
    manager_of(tmp_path, model).load()
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in saved.state_dict().items())


def test_a_target_without_memory_is_found_before_anything_is_written(tmp_path: Path) -> None:
    """A component whose memory was freed refuses the load while all others are untouched."""
    model, critic = nn.Linear(2, 2), nn.Linear(2, 2)
    manager_of(tmp_path, model, critic=critic).save(0, 1)
    with torch.no_grad():
        model.weight.add_(1)
    before = model.weight.clone()
    critic = nn.Linear(2, 2)
    critic.weight.data = torch.empty(4).resize_(2, 2)
    critic.weight.untyped_storage().resize_(0)
    with pytest.raises(MismatchError, match="storage"):
        manager_of(tmp_path, model, critic=critic).load()
    assert torch.equal(before, model.weight)


class Keeper:
    """Holds a value; `unsavable` makes its present state one that cannot be copied."""

    def __init__(self, value: int = 0, *, unsavable: bool = False) -> None:
        self.value = value
        self.unsavable = unsavable

    def state_dict(self) -> dict[str, Any]:
        """The value."""
        return {"value": self.value} | ({"handle": object()} if self.unsavable else {})

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take it back."""
        self.value = state["value"]


class Refusing(Keeper):
    """Takes no state back, with an error of the given kind."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Refuses the saved state, takes any other."""
        if state["value"] == 7:
            raise self.error
        super().load_state_dict(state)


@pytest.mark.parametrize("error", [RuntimeError("not today"), ConfigError("not today")])
def test_what_cannot_be_put_back_is_named(tmp_path: Path, error: Exception) -> None:
    """If an object stays changed after a refusal, the error is InterruptedLoadError and says so."""
    session = new_session()
    manager = new_manager(tmp_path, session)
    keeper, refusing = Keeper(1), Refusing(error)
    manager.register("keeper", keeper)
    manager.register("refusing", refusing)
    refusing.value = 7
    manager.save(0, 1)
    keeper.value, keeper.unsavable = 2, True
    before = session.state()
    with pytest.raises(InterruptedLoadError, match=r"not today.*not put back.*keeper") as caught:
        manager.load()
    assert "What to do" in str(caught.value)
    assert same(before, session.state())


@pytest.mark.parametrize("error", [RuntimeError("not today"), ConfigError("not today")])
def test_a_refusal_after_which_all_is_put_back_is_a_plain_error(
    tmp_path: Path, error: Exception
) -> None:
    """If every object is as it was, callers may catch the refusal and go on."""
    manager = new_manager(tmp_path, new_session())
    keeper, refusing = Keeper(1), Refusing(error)
    manager.register("keeper", keeper)
    manager.register("refusing", refusing)
    refusing.value = 7
    manager.save(0, 1)
    keeper.value, refusing.value = 2, 0
    with pytest.raises((LoadError, ConfigError), match="not today") as caught:
        manager.load()
    assert not isinstance(caught.value, InterruptedLoadError)
    assert keeper.value == 2
