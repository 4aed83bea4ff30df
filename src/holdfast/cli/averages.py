"""Averages and soups for the command line: members chosen, options read, outcomes described."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from holdfast.cli.output import clean, size_text, table
from holdfast.cli.rankings import metric_of, some_of
from holdfast.cli.refs import resolve
from holdfast.errors import ConfigError
from holdfast.selection.choosing import last_k, top_k

if TYPE_CHECKING:
    from holdfast.selection import Averaged, Evaluation, Soup
    from holdfast.selection.evidence import Accept

TOP = 5


def members(
    run: Path,
    top: int | None,
    last: int | None,
    named: Sequence[str],
    metric: str | None,
    mode: str | None,
) -> list[Path]:
    """The checkpoints that the options mean. Raises ConfigError if they mean two things."""
    if sum(given is not None for given in (top, last)) + bool(named) > 1:
        raise ConfigError(
            "Members were chosen in two ways", fix="give one of --top, --last and --member"
        )
    if named:
        return [resolve(run, ref) for ref in named]
    if last is not None:
        return last_k(run, last)
    wanted = metric_of(some_of(run), metric, mode)
    return top_k(run, wanted.name, wanted.mode, TOP if top is None else top)


def write(
    paths: Sequence[Path],
    output: Path | None,
    weights: str | None,
    only: Sequence[str],
    component: str,
    dtype: str | None,
    exclude_damaged: bool,
    progress: Callable[[int, int], None],
) -> Averaged:
    """Write the average. Raises ConfigError for options that cannot work."""
    import torch

    from holdfast.selection import average

    wanted = None if dtype is None else getattr(torch, dtype, None)
    if dtype is not None and not isinstance(wanted, torch.dtype):
        raise ConfigError(f"--dtype is {dtype!r}", fix="use float32, bfloat16, float16 or float64")
    return average(
        paths,
        output,
        weights=None if weights is None else [weight.strip() for weight in weights.split(",")],
        only=only,
        component=component,
        dtype=wanted,
        on_damage="exclude" if exclude_damaged else "raise",
        progress=progress,
    )


def described(found: Averaged) -> tuple[dict[str, Any], str]:
    """A written average."""
    records = found.recipe.members
    data = {
        "schema": "holdfast-average/1",
        "path": str(found.path),
        "members": [member.name for member in records],
        "weights": [str(weight) for weight in found.recipe.weights],
        "excluded": dict(found.excluded),
        "notes": list(found.notes),
        "bytes": found.bytes,
        "seconds": found.seconds,
    }
    lines = [
        clean(str(found.path), 4096),
        f"the mean of {len(records)}: {', '.join(clean(member.name) for member in records)}",
        f"{size_text(found.bytes)} in {found.seconds:.3g} s",
        *(f"note: {clean(text)}" for text in found.notes),
        *(f"left out: {clean(path)}: {clean(why)}" for path, why in found.excluded.items()),
    ]
    return data, "\n".join(lines)


def grow(
    paths: Sequence[Path],
    evaluation: Evaluation,
    accept: str,
    report: Evaluation | None,
    output: Path,
    exclude_damaged: bool,
) -> Soup:
    """Grow a soup of checkpoints of one configuration, best first."""
    from holdfast.selection import greedy_soup
    from holdfast.selection.candidates import Candidate, identify

    (config,) = identify(Candidate("soup", "checkpoint", tuple(paths[:1])), "raise").config_values()
    rule: Any = "exclude" if exclude_damaged else "raise"
    return greedy_soup(
        paths,
        evaluation.build(config),
        evaluation.evaluate,
        accept=cast("Accept", accept),
        report=None if report is None else report.evaluate,
        output=output,
        on_damage=rule,
        on_failure=rule,
    )


def soup_described(found: Soup) -> tuple[dict[str, Any], str]:
    """A soup and the turn of every member."""
    path = None if found.written is None else str(found.written.path)
    data = {
        "schema": "holdfast-soup/1",
        "path": path,
        "members": [member.name for member in found.members],
        "score": found.score,
        "best_member": found.best_member.name,
        "best_member_score": found.best_member_score,
        "report_score": found.report_score,
        "report_best_member_score": found.report_best_member_score,
        "trials": [
            {
                "member": trial.path.name,
                "score": trial.score,
                "soup_score": trial.soup_score,
                "accepted": trial.accepted,
                "reason": trial.reason,
            }
            for trial in found.trials
        ],
        "excluded": dict(found.excluded),
    }
    rows = [
        [
            trial.path.name,
            f"{trial.score:.6g}",
            "" if trial.soup_score is None else f"{trial.soup_score:.6g}",
            "kept" if trial.accepted else "left out",
            trial.reason,
        ]
        for trial in found.trials
    ]
    lines = [
        table(["member", "alone", "soup with it", "", "why"], rows, "lrrll"),
        f"soup of {len(found.members)}: {found.score:.6g}; its best member: "
        f"{found.best_member_score:.6g} (on the set that chose them)",
    ]
    if found.report_score is not None and found.report_best_member_score is not None:
        lines.append(
            f"on the second split: {found.report_score:.6g}; its best member: "
            f"{found.report_best_member_score:.6g}"
        )
    lines += [f"left out: {clean(p)}: {clean(why)}" for p, why in found.excluded.items()]
    return data, "\n".join([*lines, *([] if path is None else [clean(path, 4096)])])
