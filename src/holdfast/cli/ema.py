"""What the `ema` commands do, described as data and as text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from holdfast.cli.output import clean, size_text, table
from holdfast.cli.refs import resolve
from holdfast.decay import plan_snapshots, schedule_record
from holdfast.errors import ConfigError
from holdfast.posthoc import (
    find_snapshots,
    open_run,
    plan_ema,
    sweep_ema,
    write_recipe,
)
from holdfast.posthoc.sweep import DEFAULT_LENGTHS
from holdfast.selection import Evaluation
from holdfast.selection.candidates import Candidate, identify
from holdfast.stats import SufficientStatistics

Outcome = tuple[dict[str, Any], str]


def listed(run: Path, until: str | None, component: str) -> Outcome:
    """The averages by checkpoint, oldest first."""
    found = find_snapshots(open_run(run), until=_name(run, until), component=component)
    data = {
        "schema": "holdfast-ema-list/1",
        "averages": [
            {
                "checkpoint": one.checkpoint,
                "component": one.component,
                "schedule": schedule_record(one.schedule),
                "steps": one.clock.steps,
                "since_step": one.origin.steps,
                "updates": one.updates,
            }
            for one in found
        ],
    }
    rows = [
        [
            one.checkpoint,
            one.component,
            str(one.schedule),
            f"{one.origin.steps + 1} to {one.clock.steps}",
            str(one.updates),
        ]
        for one in found
    ]
    header = ["checkpoint", "component", "schedule", "steps", "updates"]
    return data, table(header, rows, "lllrr") if rows else "no averages"


def planned(steps: int, parameters: int, lengths: str, max_error: float, tracked: str) -> Outcome:
    """How many snapshots to keep."""
    plan = plan_snapshots(
        _numbers("--lengths", lengths),
        max_error=max_error,
        steps=steps,
        parameters=parameters,
        tracked=_numbers("--tracked", tracked),
    )
    data = {
        "schema": "holdfast-ema-plan/1",
        "count": plan.count,
        "every_steps": plan.every,
        "tracked": list(plan.tracked),
        "errors": [{"sigma_rel": s, "predicted_error": e} for s, e in plan.errors.items()],
        "coefficient_sum": plan.coefficient_sum,
        "bytes": plan.bytes,
    }
    return data, f"{plan}\nretention: KeepEMASnapshots({plan.count}), {size_text(plan.bytes)}"


def swept(
    run: Path,
    evaluation: Evaluation,
    lengths: str | None,
    until: str | None,
    component: str,
    max_error: float,
    level: float,
    tell: Callable[[str], None],
) -> Outcome:
    """Every length scored by the evaluation."""
    model = evaluation.build(_config(run, until)).eval()

    def evaluate(state: Mapping[str, Tensor]) -> SufficientStatistics:
        import torch

        model.load_state_dict(dict(state))
        with torch.no_grad():
            statistics = evaluation.evaluate(model.eval())
        tell(f"{statistics.score:.6g}")
        return statistics

    found = sweep_ema(
        run,
        evaluate,
        DEFAULT_LENGTHS if lengths is None else _numbers("--lengths", lengths),
        until=_name(run, until),
        component=component,
        max_error=max_error,
        level=level,
    )
    data = {"schema": "holdfast-ema-sweep/1", **found.to_dict(), "plot": found.plot_data()}
    return data, str(found)


def reconstructed(
    run: Path,
    length: float,
    until: str | None,
    component: str,
    output: Path | None,
    progress: Callable[[int, int], None],
    *,
    dry_run: bool,
) -> Outcome:
    """One length, written unless it is a trial."""
    recipe = plan_ema(run, length, until=_name(run, until), component=component)
    path = None if dry_run else str(write_recipe(recipe, output, progress=progress))
    data = {"schema": "holdfast-ema-reconstruct/1", "path": path, **recipe.to_dict()}
    return data, "\n".join([str(recipe), *([] if path is None else [clean(path, 4096)])])


def _name(run: Path, until: str | None) -> str | None:
    return None if until is None else resolve(run, until).name


def _config(run: Path, until: str | None) -> Any:
    path = resolve(run, until or "latest")
    return identify(Candidate("sweep", "checkpoint", (path,)), "raise").config_values()[0]


def _numbers(option: str, text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise ConfigError(f"{option} is {text!r}", fix="write numbers, as 0.05,0.10") from error
