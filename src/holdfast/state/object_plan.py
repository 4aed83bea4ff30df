"""Restoring objects with `load_state_dict`, and plain values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from holdfast.codec import Codec
from holdfast.errors import UnsavableError
from holdfast.state._tree import filled, fresh_targets, outline
from holdfast.state.capture import capture_object
from holdfast.state.component import ComponentState, StoredComponent
from holdfast.state.plan import RestorePlan
from holdfast.state.problems import Problem
from holdfast.state.torch_tags import torch_codec

REVERSIBLE_BYTES_MAX = 64 << 20

_CPU = torch.device("cpu")


@runtime_checkable
class Stateful(Protocol):
    """Anything that gives its state and takes it back."""

    def state_dict(self) -> object:
        """Return the state."""

    def load_state_dict(self, state_dict: object, /) -> object:
        """Take a state back."""


def plan_object(
    stored: StoredComponent,
    obj: object,
    *,
    codec: Codec | None = None,
    device: torch.device = _CPU,
    reversible: bool = True,
) -> RestorePlan:
    """Plan to load an object component through the object's own `load_state_dict`.

    device: where tensors of the state are handed over. reversible: take a copy of the present
    state in `finish()`, so that `rollback()` can put it back; not done for states of more than
    `REVERSIBLE_BYTES_MAX` bytes of tensors or of kinds that cannot be saved (`plan.reversible`
    tells, once finished or failed). Say False for objects whose `state_dict()` does work, such as
    a loader that starts its workers for it.
    """
    if not isinstance(obj, Stateful):
        found = Problem("kind", stored.name, "", "an object with load_state_dict", "one without")
        return RestorePlan(stored.name, problems=(found,))
    restore = _ObjectRestore(stored, obj, codec or torch_codec(), device)
    plan = RestorePlan(
        component=stored.name,
        targets=restore.targets,
        fresh=frozenset(restore.targets),
        report=(f"{stored.name}: state of {type(obj).__name__}",),
        _rollback=restore.rollback,
    )

    def finish() -> None:
        plan.reversible = reversible and restore.keep_present()
        restore.load()

    plan._finish = finish
    return plan


def plan_value(
    stored: StoredComponent, *, codec: Codec | None = None, device: torch.device = _CPU
) -> RestorePlan:
    """Plan to read a component that belongs to no live object; `plan.value` holds it once finished.

    Works for every kind; of modules and optimizers it gives the decoded tree.
    """
    codec = codec or torch_codec()
    targets = fresh_targets(stored, outline(stored, codec).names, device)
    return RestorePlan(
        component=stored.name,
        targets=targets,
        fresh=frozenset(targets),
        reversible=True,
        _finish=lambda: filled(stored, codec, targets.__getitem__),
    )


def copied(name: str, values: Mapping[str, object]) -> dict[str, Any]:
    """The values as a checkpoint would give them back; the copy shares nothing with them.

    Raises UnsavableError naming the path, from `name` on, of what cannot be saved.
    """
    codec = torch_codec()
    result: Any = _copied(capture_object(name, dict(values), codec), codec)()
    return dict(result)


class _ObjectRestore:
    def __init__(
        self, stored: StoredComponent, obj: Stateful, codec: Codec, device: torch.device
    ) -> None:
        self.stored = stored
        self.obj = obj
        self.codec = codec
        self.targets = fresh_targets(stored, outline(stored, codec).names, device)
        self.present: Callable[[], object] | None = None

    def keep_present(self) -> bool:
        """Copy the present state if that is possible and small; return whether it was."""
        try:
            now = capture_object(self.stored.name, self.obj, self.codec)
        except UnsavableError:
            return False
        if sum(tensor.nbytes for tensor in now.tensors.values()) > REVERSIBLE_BYTES_MAX:
            return False
        self.present = _copied(now, self.codec)
        return True

    def load(self) -> None:
        self.obj.load_state_dict(filled(self.stored, self.codec, self.targets.__getitem__))

    def rollback(self) -> None:
        if self.present is not None:
            self.obj.load_state_dict(self.present())


def _copied(state: ComponentState, codec: Codec) -> Callable[[], object]:
    """The state as it is now, decoded again when called."""
    tensors: dict[str, Tensor] = {name: tensor.clone() for name, tensor in state.tensors.items()}
    return lambda: codec.decode(state.tree, where=state.name, resolve=lambda name, _: tensors[name])
