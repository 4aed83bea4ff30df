"""The report of one or several runs: one self-contained page, or pages served while they train.

    gather_run(folder) -> RunData         from manifests, history and events: no torch
    measure_changes(folder)               layers over steps, by holdfast.compare
    render_file(runs) -> str              the page
    write_report(folders, out) -> Path    all of it

Names are resolved when first used: nothing here needs torch, and gathering no extra either.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from holdfast.report.gather import gather_run
    from holdfast.report.measure_layers import measure_changes
    from holdfast.report.page import render_file
    from holdfast.report.values import RunData
    from holdfast.report.write import write_report

_HOMES = {
    "RunData": "values",
    "gather_run": "gather",
    "measure_changes": "measure_layers",
    "render_file": "page",
    "write_report": "write",
}

__all__ = ["RunData", "gather_run", "measure_changes", "render_file", "write_report"]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
