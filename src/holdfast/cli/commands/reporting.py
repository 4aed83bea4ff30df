"""Commands that show runs as pages."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from holdfast.cli.output import emit, note


def register(app: typer.Typer) -> None:
    """Add `report` and `ui`."""
    app.command(epilog="Example: holdfast report runs/translate --out report.html")(report)
    app.command(epilog="Example: holdfast ui runs")(ui)


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.")],
    out: Annotated[Path, typer.Option(help="The file to write.")] = Path("report.html"),
    layers: Annotated[
        bool, typer.Option(help="Measure how layers changed: reads at most 1 GiB a run.")
    ] = True,
    release: Annotated[
        list[Path] | None, typer.Option(help="A release made of the run, if it is elsewhere.")
    ] = None,
) -> None:
    """Write one self-contained HTML page: curves, checkpoints, choice, costs, lineage."""
    from holdfast.report import write_report

    path = write_report(runs, out, layers=layers, releases=release or [])
    data = {
        "schema": "holdfast-report/1",
        "path": str(path),
        "bytes": path.stat().st_size,
        "runs": [str(run) for run in runs],
    }
    emit(data, str(path))


def ui(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Runs are looked for below it.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 0,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    allow_remote: Annotated[
        bool, typer.Option("--allow-remote", help="Let --host be one that others reach.")
    ] = False,
) -> None:
    """Serve the same pages for all runs under a folder, refreshed while they train."""
    from holdfast.report.serve import ReportServer

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    server = ReportServer(folder, host=host, port=port, allow_remote=allow_remote)
    emit({}, f"Open {server.address}")
    sys.stdout.flush()
    note("Ctrl-C ends it. Whoever has this address can read the runs and pin checkpoints.")
    try:
        server.serve()
    except KeyboardInterrupt:
        note("ended")
    finally:
        server.close()
