"""Parameter groups of an optimizer: who is in them, and how saved ones map to live ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from torch import Tensor
from torch.optim import Optimizer

from holdfast.codec import Crossed
from holdfast.errors import FormatError
from holdfast.jsontext import Json
from holdfast.state._optimizer_form import check_form, check_members
from holdfast.state.plan import CastPolicy
from holdfast.state.problems import Problem
from holdfast.state.renames import find_renames

_NAMES_SHOWN = 6


@dataclass(frozen=True, slots=True)
class Member:
    """One parameter of a group. index: its id in the state dict. name: its FQN, where known."""

    group: int
    index: Any
    name: str | None
    shape: tuple[int, ...]
    dtype: str

    def __str__(self) -> str:
        return self.name if self.name is not None else f"parameter {self.index}"


Groups: TypeAlias = "Sequence[Sequence[Member]]"


@dataclass
class GroupMatch:
    """pairs: saved parameter id to live id. cast: live ids whose parameter changed its dtype.
    by_name: whether names (not places) decided.
    """

    pairs: dict[Any, Any] = field(default_factory=dict)
    cast: set[Any] = field(default_factory=set)
    by_name: bool = False
    problems: list[Problem] = field(default_factory=list)
    tolerated: list[Problem] = field(default_factory=list)


def is_torch_layout(state: object, optimizer: Optimizer) -> bool:
    """Whether a state dict is laid out as `torch.optim.Optimizer.state_dict` does."""
    if not isinstance(state, dict) or not isinstance(state.get("state"), dict):
        return False
    groups = state.get("param_groups")
    live = getattr(optimizer, "param_groups", None)
    return (
        isinstance(groups, list)
        and isinstance(live, list)
        and [len(group["params"]) for group in groups] == [len(group["params"]) for group in live]
    )


def live_parameters(state: Mapping[str, Any], optimizer: Optimizer) -> dict[Any, Tensor]:
    """Map each parameter id in an optimizer's state dict to the live parameter."""
    return {
        index: parameter
        for packed, group in zip(state["param_groups"], optimizer.param_groups, strict=True)
        for index, parameter in zip(packed["params"], group["params"], strict=True)
    }


def live_groups(
    state: Mapping[str, Any], optimizer: Optimizer, names: Mapping[Tensor, str]
) -> list[list[Member]]:
    """The members of each live group. Names come from `names`, else from the group itself."""
    groups = []
    for number, group in enumerate(optimizer.param_groups):
        own_names = group.get("param_names") or [None] * len(group["params"])
        indices = state["param_groups"][number]["params"]
        groups.append(
            [
                Member(
                    number,
                    index,
                    names.get(parameter, own_name),
                    tuple(parameter.shape),
                    str(parameter.dtype),
                )
                for index, parameter, own_name in zip(
                    indices, group["params"], own_names, strict=True
                )
            ]
        )
    return groups


def describe(optimizer: Optimizer, names: Mapping[Tensor, str]) -> object:
    """What the tree keeps of the members: per group, rows of name, shape and dtype."""
    described: list[list[Json]] = []
    plain = True
    for group in optimizer.param_groups:
        own_names = group.get("param_names") or [None] * len(group["params"])
        rows: list[Json] = []
        for parameter, own_name in zip(group["params"], own_names, strict=True):
            name = names.get(parameter, own_name)
            plain = plain and (name is None or (type(name) is str and name.isascii()))
            rows.append([name, list(parameter.shape), str(parameter.dtype)])
        described.append(rows)
    # So long a list of lists takes the codec longer than all else it is given of an optimizer.
    return Crossed(described, 8 * sum(map(len, described))) if plain else described


def saved_groups(tree: Mapping[str, Any], where: str) -> list[list[Member]]:
    """Read back what `describe` wrote, joined with the ids of the saved state dict.

    Raises FormatError if either has another form, or the two do not fit each other.
    """
    check_form(tree, where)
    check_members(tree["parameters"], where)
    try:
        if not isinstance(tree["state_dict"]["state"], dict):
            raise TypeError("the state is not a dict")
        return [
            [
                Member(number, _hashable(index), _text_or_none(name), tuple(shape), str(dtype))
                for index, (name, shape, dtype) in zip(packed["params"], rows, strict=True)
            ]
            for number, (packed, rows) in enumerate(
                zip(tree["state_dict"]["param_groups"], tree["parameters"], strict=True)
            )
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(
            "The saved parameter groups are not described as they should be", where=where
        ) from error


def _hashable(index: Any) -> Any:
    hash(index)
    return index


def _text_or_none(name: object) -> str | None:
    if name is not None and not isinstance(name, str):
        raise TypeError("a parameter's name is not text")
    return name


def match_groups(
    component: str,
    saved: Groups,
    live: Groups,
    *,
    frozen: set[str],
    strict: bool,
    cast: CastPolicy,
) -> GroupMatch:
    """Pair saved parameters with live ones: by name if all have distinct names, else by place.

    frozen: FQNs the model has, but without gradient. strict: whether parameters on one side only
    are problems.
    """
    match = GroupMatch()
    if len(saved) != len(live):
        match.problems.append(
            Problem("param_group", component, "", _listed(live), _listed(saved), _regroup_hint())
        )
        return match
    match.by_name = _all_named(saved) and _all_named(live)
    if match.by_name:
        partners = _by_name(match, component, saved, live, frozen, strict)
    else:
        partners = list(_by_place(match, component, saved, live))
    for there, here in partners:
        match.pairs[there.index] = here.index
        if there.dtype != here.dtype:
            match.cast.add(here.index)
        match.problems += _misfits(component, there, here, cast)
    return match


def _all_named(groups: Groups) -> bool:
    names = [member.name for group in groups for member in group]
    return None not in names and len(set(names)) == len(names)


def _by_name(
    match: GroupMatch,
    component: str,
    saved: Groups,
    live: Groups,
    frozen: set[str],
    strict: bool,
) -> list[tuple[Member, Member]]:
    there = {str(member): member for group in saved for member in group}
    here = {str(member): member for group in live for member in group}
    only_here = {name: member.shape for name, member in here.items() if name not in there}
    only_there = {name: member.shape for name, member in there.items() if name not in here}
    likely = find_renames(only_here, only_there).pairs
    back = {found: name for name, found in likely.items()}
    found = match.problems if strict else match.tolerated
    for name in only_here:
        hint = (
            f"it was saved as {likely[name]!r}?"
            if name in likely
            else "it was frozen or absent when saved; with strict=False it starts afresh"
        )
        found.append(Problem("missing", component, name, f"in group {here[name].group}", "", hint))
    for name in only_there:
        if name in frozen:
            hint = "it is frozen now (requires_grad=False); with strict=False its state is dropped"
        elif name in back:
            hint = f"it is called {back[name]!r} here?"
        else:
            hint = "with strict=False its state is dropped"
        found.append(
            Problem("unexpected", component, name, "", f"in group {there[name].group}", hint)
        )
    for name, member in here.items():
        if name in there and there[name].group != member.group:
            groups = (f"group {member.group}", f"group {there[name].group}")
            found.append(Problem("param_group", component, name, *groups, _regroup_hint()))
    return [(there[name], member) for name, member in here.items() if name in there]


def _by_place(
    match: GroupMatch, component: str, saved: Groups, live: Groups
) -> Iterator[tuple[Member, Member]]:
    for number, (there, here) in enumerate(zip(saved, live, strict=True)):
        if len(there) != len(here):
            match.problems.append(
                Problem(
                    "param_group",
                    component,
                    f"group {number}",
                    _members(here),
                    _members(there),
                    _regroup_hint(),
                )
            )
        else:
            yield from zip(there, here, strict=True)


def _misfits(component: str, there: Member, here: Member, cast: CastPolicy) -> Iterator[Problem]:
    if there.shape != here.shape:
        shapes = (f"a parameter of shape {list(here.shape)}", str(list(there.shape)))
        yield Problem("shape", component, str(here), *shapes)
    elif there.dtype != here.dtype and cast == "refuse":
        dtypes = (f"a {here.dtype} parameter", there.dtype)
        yield Problem("dtype", component, str(here), *dtypes, 'load with cast="floating"')


def _regroup_hint() -> str:
    return "build the optimizer with the parameter groups it was saved with"


def _listed(groups: Groups) -> str:
    listed = "; ".join(f"{number}: {_members(group)}" for number, group in enumerate(groups))
    return f"{len(groups)} groups ({listed})"


def _members(group: Sequence[Member]) -> str:
    names = [str(member) for member in group[:_NAMES_SHOWN]]
    more = [f"and {len(group) - _NAMES_SHOWN} more"] * (len(group) > _NAMES_SHOWN)
    return f"{len(group)} parameters: {', '.join(names + more)}"
