"""Stored names against live names of a module: who fills whom, and every reason why not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from holdfast.state._live_module import LiveModule, is_extra
from holdfast.state._regions import USUAL
from holdfast.state.component import StoredComponent, StoredTensor
from holdfast.state.plan import CastPolicy
from holdfast.state.problems import Problem
from holdfast.state.renames import find_renames


@dataclass
class Match:
    """sources: live FQN to the stored name that fills it. unmatched: state-dict names of the
    checkpoint that nothing here is called. absent: live names that nothing fills. converted: live
    names whose dtype is another than that of what fills them.
    """

    sources: dict[str, str] = field(default_factory=dict)
    unmatched: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    tolerated: list[Problem] = field(default_factory=list)
    report: list[str] = field(default_factory=list)
    converted: list[str] = field(default_factory=list)


def match_names(
    stored: StoredComponent,
    live: LiveModule,
    *,
    private: set[str],
    strict: bool,
    only: Callable[[str], bool],
    cast: CastPolicy,
) -> Match:
    """Match every wanted name. private: stored names that only the tree refers to.

    A name missing from the checkpoint is still filled if a tensor tied to it here is.
    """
    match = Match()
    there = {name: name for name in stored.tensors} | dict(stored.aliases)
    names = [name for name in live.tensors if only(name)]
    groups: dict[object, list[str]] = defaultdict(list)
    for name in names:
        groups[live.regions[name]].append(name)
    for group in groups.values():
        if len(group) == 1 and group[0] in there:
            match.sources[group[0]] = there[group[0]]
        else:
            _match_group(match, stored, group, there)
    match.unmatched = [
        name
        for name in there
        if name not in live.tensors and name not in private and not is_extra(name) and only(name)
    ]
    _report_names(match, stored, live, there, strict)
    for name, source in match.sources.items():
        tensor, facts = live.tensors[name], stored.tensors[source]
        if (
            type(tensor) not in USUAL
            or tensor.shape != facts.shape
            or tensor.dtype is not facts.dtype
            or tensor.is_meta
        ):
            match.problems += _misfits(stored, name, tensor, source, cast)
            if tensor.dtype != facts.dtype:
                match.converted.append(name)
    return match


def _match_group(
    match: Match, stored: StoredComponent, group: list[str], there: Mapping[str, str]
) -> None:
    """Choose one source for all names of one live memory region."""
    sources = dict.fromkeys(there[name] for name in group if name in there)
    if not sources:
        match.absent += group
        return
    first, *others = sources
    match.sources.update(dict.fromkeys(group, first))
    different = [
        name for name in others if not stored.tensors[name].same_value(stored.tensors[first])
    ]
    for name in different:
        match.problems.append(
            Problem(
                "alias",
                stored.name,
                name,
                expected=f"the value of {first!r}",
                found="a tensor not proven equal to it",
                suggestion=f"untie {first!r} and {name!r} before loading, or load only one",
            )
        )
    tied = [name for name in group if name not in there]
    if tied:
        match.report.append(f"{', '.join(tied)} filled through the tie with {first!r}")


def _report_names(
    match: Match, stored: StoredComponent, live: LiveModule, there: Mapping[str, str], strict: bool
) -> None:
    shapes = {name: stored.tensors[there[name]].shape for name in match.unmatched}
    wanted = {name: _shape(live.tensors[name]) for name in match.absent}
    renames = find_renames(wanted, shapes)
    back = {found: name for name, found in renames.pairs.items()}
    found = [
        _name_problem("missing", stored.name, name, _text(live.tensors[name]), live, renames.pairs)
        for name in match.absent
    ] + [
        _name_problem(
            "unexpected", stored.name, name, _text(stored.tensors[there[name]]), live, back
        )
        for name in match.unmatched
    ]
    (match.problems if strict else match.tolerated).extend(found)
    if renames.rule:
        match.report.append(
            f"{len(renames.pairs)} names of {stored.name} look renamed: {renames.rule}"
        )


def _name_problem(
    kind: str,
    component: str,
    name: str,
    text: str,
    live: LiveModule,
    likely: Mapping[str, str],
) -> Problem:
    if name in likely:
        there = "the checkpoint has" if kind == "missing" else "wanted here is"
        suggestion = f"{there} {likely[name]!r} of the same shape; is it that one?"
    elif live.loads_itself(name):
        suggestion = "with strict=False the module's own load hooks may translate it"
    else:
        suggestion = ""
    if kind == "missing":
        return Problem("missing", component, name, expected=text, suggestion=suggestion)
    return Problem("unexpected", component, name, found=text, suggestion=suggestion)


def _misfits(
    stored: StoredComponent, name: str, tensor: Tensor, source: str, cast: CastPolicy
) -> Iterable[Problem]:
    facts = stored.tensors[source]
    if is_lazy(tensor):
        return
    if tensor.is_meta:
        hint = 'call module.to_empty(device="cpu") before loading'
        yield Problem("device", stored.name, name, found=_text(facts), suggestion=hint)
    if tuple(tensor.shape) == facts.shape and tensor.dtype == facts.dtype:
        return
    expected, found = _text(tensor), _text(facts)
    if tuple(tensor.shape) != facts.shape:
        yield Problem("shape", stored.name, name, expected, found, _shape_hint(tensor, facts))
    elif not may_cast(facts.dtype, tensor.dtype, cast):
        convertible = may_cast(facts.dtype, tensor.dtype, "floating")
        hint = 'load with cast="floating" to convert it' if convertible else ""
        yield Problem("dtype", stored.name, name, expected, found, hint)


def may_cast(found: torch.dtype, wanted: torch.dtype, cast: CastPolicy) -> bool:
    """Whether data of one dtype may be loaded into the other under this policy."""
    both_floating = found.is_floating_point and wanted.is_floating_point
    return found == wanted or (cast == "floating" and both_floating)


def _shape_hint(tensor: Tensor, facts: StoredTensor) -> str:
    if tensor.numel() == torch.Size(facts.shape).numel():
        return "as many elements in another shape; was the module defined differently?"
    return "build the model with the configuration it was saved with"


def _shape(tensor: Tensor) -> tuple[int, ...]:
    return () if is_lazy(tensor) else tuple(tensor.shape)


def _text(tensor: Tensor | StoredTensor) -> str:
    dtype = str(tensor.dtype).removeprefix("torch.")
    if isinstance(tensor, Tensor) and is_lazy(tensor):
        return f"{dtype} of any shape"
    return f"{dtype}{list(tensor.shape)}"
