"""Observing a training session: what checkpoints hold of it, what they do not, what steps used."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from holdfast.jsontext import dump
from holdfast.manager import CheckpointManager
from holdfast.rehearsal.digests import value_digest
from holdfast.rehearsal.hidden import hidden_marks
from holdfast.rehearsal.records import Kind, Mark, Observation
from holdfast.session import capture_session
from holdfast.session.objects import MODEL, OPTIMIZER, RNG, RUN, SCALER, SCHEDULER
from holdfast.state import ComponentState, capture_rng

_KINDS: dict[str, Kind] = {
    MODEL: "module",
    OPTIMIZER: "optimizer",
    SCHEDULER: "scheduler",
    SCALER: "scaler",
}


class Watcher:
    """Looks at one session from inside its process, without moving anything in it."""

    def __init__(self, manager: CheckpointManager, step: Any) -> None:
        self._manager, self._step = manager, step
        self._used: list[str] = []
        for name, optimizer in manager.objects.optimizers():
            optimizer.register_step_pre_hook(functools.partial(self._note_step, name))

    def observe(self, loss: object = None) -> Observation:
        """Everything, now."""
        used, self._used = tuple(self._used), []
        marks = {**self._saved(), **self._streams()}
        hidden = hidden_marks(self._step, set(self._known()))
        return Observation({**hidden, **marks}, used, "" if loss is None else _loss(loss))

    def _note_step(self, name: str, optimizer: Optimizer, *_: object) -> None:
        rates = ", ".join(f"{_rate(group['lr'])}" for group in optimizer.param_groups)
        self._used.append(f"{name} stepped at lr {rates}{self._schedule()}")

    def _schedule(self) -> str:
        scheduler = self._manager.objects.scheduler
        count = getattr(scheduler, "last_epoch", None)
        return "" if count is None else f" with the scheduler at {count}"

    def _saved(self) -> dict[str, Mark]:
        """The components as a checkpoint would hold them; buffers by themselves."""
        objects, config = self._manager.objects, self._manager.config
        marks: dict[str, Mark] = {}
        for state in capture_session(objects, {}, with_rng=False):
            if state.name != RUN:
                trained = state.name in (OPTIMIZER, SCHEDULER, SCALER)
                saved = config.save_optimizer or not trained
                marks |= _of_component(state, objects.components()[state.name], saved)
        return marks

    def _streams(self) -> dict[str, Mark]:
        state = capture_rng(RNG, self._manager.objects.generators)
        tree = state.tree if isinstance(state.tree, dict) else {}
        saved = self._manager.config.save_rng_state
        return {
            f"random {stream}": Mark("random stream", _digest(state, stream, content), saved)
            for stream, content in tree.items()
        }

    def _known(self) -> Iterator[int]:
        """Ids of what checkpoints hold, and of the manager itself."""
        objects = self._manager.objects
        yield from (id(self._manager), id(objects), id(self._manager.config))
        for value in (*objects.components().values(), *objects.generators.values()):
            yield id(value)
            if isinstance(value, nn.Module):
                yield from map(id, value.modules())
                yield from map(id, value.state_dict(keep_vars=True).values())
                yield from map(id, value.parameters())
            generator = getattr(value, "generator", None)
            if isinstance(generator, torch.Generator):
                yield id(generator)


def _of_component(state: ComponentState, value: object, saved: bool) -> dict[str, Mark]:
    kind = _KINDS.get(state.name) or _kind(value)
    if not isinstance(value, nn.Module):
        return {state.name: Mark(kind, value_digest([_text(state), dict(state.tensors)]), saved)}
    buffers = {name for name, _ in value.named_buffers()}
    marks = {
        f"{state.name}: buffer {name}": Mark("buffer", value_digest(tensor), saved)
        for name, tensor in state.tensors.items()
        if name in buffers
    }
    for name, tensor in value.named_buffers():
        if name not in state.tensors and name not in state.aliases:
            marks[f"{state.name}: buffer {name}"] = Mark("buffer", value_digest(tensor), False)
    rest = {name: tensor for name, tensor in state.tensors.items() if name not in buffers}
    marks[state.name] = Mark("module", value_digest([_text(state), rest]), saved)
    return marks


def _kind(value: object) -> Kind:
    if isinstance(value, nn.Module):
        return "module"
    if isinstance(value, Optimizer):
        return "optimizer"
    if hasattr(value, "last_epoch"):
        return "scheduler"
    return "loader" if hasattr(value, "__iter__") else "stateful"


def _digest(state: ComponentState, stream: str, content: object) -> str:
    tensors = [tensor for name, tensor in state.tensors.items() if stream in name]
    return value_digest([dump({"content": content}), tensors])  # type: ignore[dict-item]


def _text(state: ComponentState) -> bytes:
    return dump({"tree": state.tree})


def _loss(value: object) -> str:
    if isinstance(value, Tensor):
        return value_digest(value) if value.numel() != 1 else float(value).hex()
    return value.hex() if isinstance(value, float) else repr(value)


def _rate(value: object) -> str:
    return repr(float(value)) if isinstance(value, (int, float, Tensor)) else repr(value)
