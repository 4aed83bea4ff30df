"""The tensors of a model that an average is kept of, by FQN, each memory region once."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from holdfast.state import canonical_names
from holdfast.state._regions import region

_Fingerprint = list[tuple[int, int, bool]]


@dataclass
class Entry:
    """One tensor of the model. name: its first FQN. aliases: further FQNs of the same memory.

    lives: the parameter or buffer objects, more than one if tied by sharing storage only.
    """

    name: str
    lives: list[Tensor]
    is_parameter: bool
    aliases: list[str] = field(default_factory=list)

    @property
    def live(self) -> Tensor:
        """The first live tensor."""
        return self.lives[0]

    @property
    def trains(self) -> bool:
        """Whether it is a parameter that is trained now and can be averaged."""
        return (
            self.is_parameter
            and averageable(self.live)
            and any(live.requires_grad for live in self.lives)
        )


class Roster:
    """Looks the model's tensors up again only when one has come, gone, moved, frozen or thawed."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._fingerprint: _Fingerprint | None = None
        self.entries: dict[str, Entry] = {}

    def refresh(self) -> bool:
        """Bring `entries` up to date; return whether anything changed."""
        now = self._take_fingerprint()
        if now == self._fingerprint:
            return False
        self._fingerprint = now
        self.entries = _entries(self._model)
        return True

    def buffers(self) -> list[Entry]:
        """The buffers, with the tensor objects that are in place now."""
        return [entry for entry in self.entries.values() if not entry.is_parameter]

    def _take_fingerprint(self) -> _Fingerprint:
        return [
            (id(tensor), address(tensor), tensor.requires_grad)
            for module in self._model.modules()
            for tensor in (*module._parameters.values(), *module._buffers.values())
            if tensor is not None
        ]


def memory(tensor: Tensor) -> Tensor:
    """The dense memory of a tensor on this rank: of a sharded one, the shard."""
    to_local = getattr(tensor, "to_local", None)
    return tensor.detach() if to_local is None else to_local().detach()


def address(tensor: Tensor) -> int:
    """Where its memory begins; 0 if it has none."""
    usual = type(tensor) is Tensor or type(tensor) is nn.Parameter
    if not usual and is_lazy(tensor):
        return 0
    return (tensor if usual else memory(tensor)).data_ptr()


def averageable(tensor: Tensor) -> bool:
    """Whether an average of it means anything: floating or complex numbers."""
    return tensor.is_floating_point() or tensor.is_complex()


def _entries(model: nn.Module) -> dict[str, Entry]:
    state = model.state_dict(keep_vars=True)
    parameters = {id(parameter) for parameter in model.parameters()}
    names = canonical_names(model, state)
    found: dict[str, Entry] = {}
    by_region: dict[object, Entry] = {}
    for raw, tensor in state.items():
        if not isinstance(tensor, Tensor) or is_lazy(tensor) or tensor.is_meta:
            continue
        key = region(tensor)
        entry = by_region.get(key)
        if entry is None:
            entry = Entry(names[raw], [tensor], id(tensor) in parameters)
            by_region[key] = found[names[raw]] = entry
            continue
        entry.aliases.append(names[raw])
        if all(live is not tensor for live in entry.lives):
            entry.lives.append(tensor)
    return found


def overlapping(entries: list[Entry]) -> bool:
    """Whether any two of these tensors share part of their memory."""
    spans: dict[torch.device, list[tuple[int, int]]] = {}
    for entry in entries:
        storage = memory(entry.live).untyped_storage()
        begin = storage.data_ptr()
        spans.setdefault(entry.live.device, []).append((begin, begin + storage.nbytes()))
    for found in spans.values():
        found.sort()
        if any(left[1] > right[0] for left, right in pairwise(found)):
            return True
    return False
