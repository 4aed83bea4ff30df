"""What becomes of every tensor of an average, decided before a byte of data is read."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from holdfast.digest import raw_digest
from holdfast.errors import ConfigError, MismatchError
from holdfast.jsontext import Json
from holdfast.selection.agreement import require_one_model
from holdfast.selection.members import Member, references
from holdfast.tensorfile import FilePlan, plan_file
from holdfast.weights import Rule, check_rules, chosen_rule, real_dtype

_SHOWN_MAX = 20


@dataclass(frozen=True, slots=True)
class AverageOptions:
    """How to average. weights: whole numbers, one per member; the rest as in `Recipe`."""

    weights: tuple[int, ...]
    only: tuple[str, ...] = ()
    rules: Mapping[str, str] = field(default_factory=dict)
    dtype: torch.dtype | None = None
    check_config: bool = True


@dataclass(frozen=True, slots=True)
class Task:
    """One stored tensor of the result.

    source: index of the member it is copied from; None if it is the mean of all. dtype: of the
    result.
    """

    name: str
    source: int | None
    dtype: torch.dtype


@dataclass(frozen=True, slots=True)
class AveragePlan:
    """The result down to its bytes' places. tasks: in file order. notes: as in state.json."""

    tasks: tuple[Task, ...]
    file: FilePlan
    notes: Mapping[str, Mapping[str, Json]]

    @property
    def averaged(self) -> tuple[str, ...]:
        """Names of the tensors that are means."""
        return tuple(task.name for task in self.tasks if task.source is None)


def plan_average(members: Sequence[Member], options: AverageOptions) -> AveragePlan:
    """Plan the average of `members`, oldest first.

    Raises MismatchError if they are not of one model or a tensor without a mean differs between
    them, ConfigError for options that fit nothing.
    """
    check_rules(options.rules)
    if options.dtype is not None and real_dtype(options.dtype) != options.dtype:
        raise ConfigError(
            f"Averages cannot be written as {options.dtype}",
            fix="use torch.float32, torch.bfloat16, torch.float16 or torch.float64",
        )
    require_one_model(members, same_dtypes=options.dtype is None, config=options.check_config)
    _require_matches(members[-1], options)
    private = set(references(members[-1].tree))
    problems: list[str] = []
    tasks: dict[str, Task] = {}
    for name in members[-1].tensors:
        task = _task(name, members, options, private=name in private)
        if isinstance(task, str):
            problems.append(f"{name}: {task}")
        else:
            tasks[name] = task
    if problems:
        more = [f"and {len(problems) - _SHOWN_MAX} more"] if len(problems) > _SHOWN_MAX else []
        raise MismatchError(
            f"{len(problems)} tensors cannot be averaged:",
            problems=[*problems[:_SHOWN_MAX], *more],
            where=members[-1].place,
            fix='choose for them with rules={"<pattern>": "newest"}',
        )
    return _laid_out(members[-1], tasks)


def _task(
    name: str, members: Sequence[Member], options: AverageOptions, *, private: bool
) -> Task | str:
    newest = len(members) - 1
    facts = members[newest].tensors[name]
    copied = Task(name, newest, facts.dtype)
    chosen = not options.only or any(fnmatch.fnmatchcase(name, p) for p in options.only)
    if private or not chosen:
        return copied
    rule: Rule = chosen_rule(name, facts.dtype, facts.shape, options.rules)
    if rule == "newest":
        return copied
    if rule == "refuse":
        return f"{facts.dtype} is quantised: its values stand for others by a scale kept elsewhere"
    if rule == "equal":
        if _all_equal(name, members):
            return copied
        shown = f"{facts.dtype} {list(facts.shape)}"
        return f"{shown} differs between members, and there is no mean of it"
    wanted = facts.dtype
    if options.dtype is not None and not facts.dtype.is_complex:
        wanted = options.dtype
    same_dtype = all(member.tensors[name].dtype == wanted for member in members)
    if same_dtype and _committed_equal(name, members):
        return copied
    return Task(name, None, wanted)


def _committed_equal(name: str, members: Sequence[Member]) -> bool:
    """Whether all members are known to hold the same bytes: frozen layers need one read only."""
    digests = {member.committed(name) for member in members}
    return len(digests) == 1 and None not in digests


def _all_equal(name: str, members: Sequence[Member]) -> bool:
    if len({(member.tensors[name].dtype, member.tensors[name].shape) for member in members}) > 1:
        return False
    return len({member.committed(name) or _read_digest(name, member) for member in members}) == 1


def _read_digest(name: str, member: Member) -> bytes:
    data = bytearray(member.tensors[name].nbytes)
    member.read_into(name, 0, memoryview(data))
    return raw_digest(data)


def _require_matches(newest: Member, options: AverageOptions) -> None:
    for pattern in (*options.only, *options.rules):
        if not any(fnmatch.fnmatchcase(name, pattern) for name in newest.tensors):
            raise ConfigError(
                f"No tensor's name fits {pattern!r}",
                where=newest.place,
                fix=f"names look like {next(iter(newest.tensors), 'nothing')!r}; tied tensors go "
                "by their first name",
            )


def _laid_out(newest: Member, tasks: Mapping[str, Task]) -> AveragePlan:
    """Lay the file out by tensors that have dtype and shape but no memory."""
    shells = {
        name: torch.empty((), dtype=task.dtype).expand(newest.tensors[name].shape)
        for name, task in tasks.items()
    }
    file = plan_file(shells, {"format": "pt"})
    notes = {name: facts.note for name, facts in newest.tensors.items() if facts.note}
    return AveragePlan(tuple(tasks[name] for name in file.specs), file, notes)
