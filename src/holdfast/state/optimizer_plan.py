"""Restoring optimizers: parameters matched by name, state read where the optimizer keeps it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from holdfast.codec import Codec
from holdfast.errors import FormatError
from holdfast.state._groups import (
    GroupMatch,
    is_torch_layout,
    live_groups,
    live_parameters,
    match_groups,
    saved_groups,
)
from holdfast.state._optimizer_form import check_form, rehearse
from holdfast.state._optimizer_targets import choose_targets
from holdfast.state._table import tensors_within
from holdfast.state._tree import Outline, Reference, filled, fresh_targets, outline
from holdfast.state.component import StoredComponent
from holdfast.state.plan import CastPolicy, RestorePlan
from holdfast.state.problems import Problem
from holdfast.state.torch_tags import torch_codec

_CPU = torch.device("cpu")


def plan_optimizer(
    stored: StoredComponent,
    optimizer: Optimizer,
    names: Mapping[Tensor, str],
    *,
    codec: Codec | None = None,
    strict: bool = True,
    cast: CastPolicy = "refuse",
) -> RestorePlan:
    """Plan to load an optimizer component.

    names: FQN by live parameter, as `parameter_names` gives them. Parameters are matched by name
    where every one has a name on both sides, so that their order may differ; by place otherwise.
    A saved group's options become those of the live group of the same number. Groups that differ
    in number, or by place in size, are problems; so are parameters on one side only unless
    `strict` is false, which leaves those here without state and drops the state of those there.

    State tensors the optimizer already holds in the right form are filled in place, others get
    memory where torch would put them: beside their parameter, but `step` on the CPU unless the
    group is fused or capturable. `finish()` hands them to the optimizer's own `load_state_dict`,
    which takes them as they are; what it would still convert although the parameter's dtype has
    not changed (float32 state of a bfloat16 parameter) is put back as it was saved.
    Raises FormatError if the stored tree is not that of an optimizer.
    """
    if stored.kind != "optimizer":
        kind = Problem("kind", stored.name, "", "optimizer", stored.kind)
        return RestorePlan(stored.name, problems=(kind,))
    codec = codec or torch_codec()
    tree = outline(stored, codec)
    current = optimizer.state_dict()
    if not isinstance(tree.value, dict) or "state_dict" not in tree.value:
        raise FormatError("The state tree is not that of an optimizer", where=stored.name)
    if "parameters" not in tree.value:
        if is_torch_layout(current, optimizer):
            check_form(tree.value, stored.name)
            rehearse(optimizer, tree.value["state_dict"], stored.name)
        return _plan_whole(stored, optimizer, tree, codec)
    saved = saved_groups(tree.value, stored.name)
    rehearse(optimizer, tree.value["state_dict"], stored.name)
    if not is_torch_layout(current, optimizer):
        found = Problem(
            "kind", stored.name, "", type(optimizer).__name__, "a torch.optim optimizer"
        )
        return RestorePlan(stored.name, problems=(found,))
    frozen = {name for parameter, name in names.items() if not parameter.requires_grad}
    live = live_groups(current, optimizer, names)
    match = match_groups(stored.name, saved, live, frozen=frozen, strict=strict, cast=cast)
    restore = _OptimizerRestore(stored, optimizer, current, match, codec)
    if not match.problems:
        restore.allocate(tree.value["state_dict"])
    return RestorePlan(
        component=stored.name,
        targets=restore.targets,
        fresh=restore.fresh,
        problems=tuple(match.problems),
        tolerated=tuple(match.tolerated),
        report=(restore.report(),),
        live=True,
        _finish=restore.finish,
    )


def _plan_whole(
    stored: StoredComponent, optimizer: Optimizer, tree: Outline, codec: Codec
) -> RestorePlan:
    """For an optimizer whose state dict has a layout of its own: hand it over as it was."""
    targets = fresh_targets(stored, tree.names, _CPU)

    def finish() -> None:
        value: Any = filled(stored, codec, targets.__getitem__)
        optimizer.load_state_dict(value["state_dict"])

    return RestorePlan(
        component=stored.name,
        targets=targets,
        fresh=frozenset(targets),
        report=(f"{stored.name}: loaded by its own code, parameters not compared",),
        live=True,
        _finish=finish,
    )


class _Ids(list[Any]):
    """A list that knows its members: torch asks it once per state tensor whether one is there."""

    def __init__(self, ids: Iterable[Any] = ()) -> None:
        super().__init__(ids)
        self._members = frozenset(self)

    def __contains__(self, index: object) -> bool:
        return index in self._members

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (list(self),)


class _OptimizerRestore:
    """The targets of one optimizer and the last step that hands them over."""

    def __init__(
        self,
        stored: StoredComponent,
        optimizer: Optimizer,
        current: Mapping[str, Any],
        match: GroupMatch,
        codec: Codec,
    ) -> None:
        self.stored = stored
        self.optimizer = optimizer
        self.current = current
        self.match = match
        self.codec = codec
        self.parameters = live_parameters(current, optimizer)
        self.targets: dict[str, Tensor] = {}
        self.fresh: frozenset[str] = frozenset()

    def allocate(self, saved: Mapping[str, Any]) -> None:
        """Choose memory for every tensor that will be loaded."""
        self.targets, self.fresh = choose_targets(
            self.stored.tensors, saved, self.current, self.match.pairs, self.parameters
        )

    def report(self) -> str:
        """How many parameters were matched, and by what."""
        how = "by name" if self.match.by_name else "by place, for want of names"
        count = len(self.match.pairs)
        return f"{self.stored.name}: {count} parameters matched {how}, {len(self.targets)} tensors"

    def finish(self) -> None:
        tree: Any = filled(self.stored, self.codec, self._tensor)
        saved = tree["state_dict"]
        entries = self._entries(saved)
        groups = [
            self._group(group, now)
            for group, now in zip(saved["param_groups"], self.current["param_groups"], strict=True)
        ]
        self.optimizer.load_state_dict({**saved, "state": entries, "param_groups": groups})
        self._put_back(entries)

    def _tensor(self, name: str) -> object:
        # State that was dropped has no target; its entry is left out below.
        return self.targets.get(name, Reference(name))

    def _entries(self, saved: Mapping[str, Any]) -> dict[Any, Any]:
        """The saved state under live parameter ids; what is no parameter's keeps its key."""
        known = {index for group in saved["param_groups"] for index in group["params"]}
        pairs = self.match.pairs
        return {
            pairs.get(key, key): entry
            for key, entry in saved["state"].items()
            if key in pairs or key not in known
        }

    def _group(self, saved: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
        """The saved options, in their order, with the live members."""
        group = {**saved, "params": _Ids(now["params"])}
        if "param_names" in now:
            group["param_names"] = list(now["param_names"])
        elif "param_names" in saved:
            called = dict(zip(saved["params"], saved["param_names"], strict=True))
            origin = {here: there for there, here in self.match.pairs.items()}
            names = [called.get(origin.get(index)) for index in now["params"]]
            if None in names:
                del group["param_names"]
            else:
                group["param_names"] = names
        return group

    def _put_back(self, entries: Mapping[Any, Any]) -> None:
        """Undo conversions of state whose parameter kept its dtype: resuming must be exact."""
        for index, parameter in self.parameters.items():
            entry, now = entries.get(index), self.optimizer.state.get(parameter)
            if isinstance(entry, dict) and isinstance(now, dict) and index not in self.match.cast:
                for key, value in entry.items():
                    if key != "step" and key in now and _dtypes(value) != _dtypes(now[key]):
                        now[key] = value


def _dtypes(value: object) -> list[torch.dtype]:
    return [tensor.dtype for _, tensor in tensors_within(value, "")]
