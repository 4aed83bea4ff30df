"""What the local server shows: the list of runs, a run, several runs beside each other."""

from __future__ import annotations

import functools
import hashlib
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from holdfast.engine.amend import set_pin
from holdfast.engine.catalog import read_catalog
from holdfast.errors import CheckpointNotFoundError, ConfigError
from holdfast.report import text
from holdfast.report.gather import gather_run
from holdfast.report.page import asset, json_for_script, render_live, render_template, vega_asset
from holdfast.report.serve_runs import find_runs, fingerprint
from holdfast.report.values import RunData
from holdfast.storage import LocalRun

COMPARED_MAX = 8
ASSETS = ("report.css", "report.js", "live.js", "vega.js")
_PAGES_MAX = 32
_REASON_MAX = 500


@dataclass(frozen=True, slots=True)
class Page:
    """A page as it is now. version: changes when what it shows does."""

    version: str
    html: str


class Site:
    """Pages of the runs under one folder. Safe for several threads."""

    def __init__(self, root: Path, write_token: str) -> None:
        self.root = root
        self._token = write_token
        self._made: dict[str, Page] = {}
        self._making = threading.Lock()

    def version(self, keys: Sequence[str] | None) -> str:
        """What would be the version of a page of these runs, None for the list, without making it.

        Raises CheckpointNotFoundError for a run that is not there.
        """
        runs = find_runs(self.root)
        chosen = list(runs) if keys is None else list(keys)
        seen = hashlib.blake2b(digest_size=12)
        for key in chosen:
            seen.update(f"{key}\0{fingerprint(self._run(key, runs))}\0".encode(errors="replace"))
        return seen.hexdigest()

    def page(self, keys: Sequence[str] | None) -> Page:
        """The page of one run or of several beside each other; of the list of all for None."""
        address = "list" if keys is None else "runs:" + "\0".join(keys)
        version = self.version(keys)
        with self._making:
            known = self._made.pop(address, None)
            if known is None or known.version != version:
                html = self._list(version) if keys is None else self._runs(keys, version)
                known = Page(version, html)
            self._made[address] = known
            while len(self._made) > _PAGES_MAX:
                self._made.pop(next(iter(self._made)))
        return known

    def set_pin(self, key: str, name: str, reason: str | None) -> None:
        """Pin a checkpoint of a run with a reason, or unpin it (None): the only thing written.

        Raises CheckpointNotFoundError, ConfigError without a reason, LoadError or SaveError.
        """
        if reason is not None and not reason.strip():
            raise ConfigError("A pin needs a reason", fix="say why it must stay")
        run = LocalRun(self._run(key, find_runs(self.root)))
        entry = read_catalog(run).named(name)
        set_pin(run, entry, None if reason is None else reason[:_REASON_MAX])

    def _run(self, key: str, runs: Mapping[str, Path]) -> Path:
        if key not in runs:
            raise CheckpointNotFoundError(f"There is no run {key!r} under this folder")
        return runs[key]

    def _runs(self, keys: Sequence[str], version: str) -> str:
        runs = find_runs(self.root)
        data = [gather_run(self._run(key, runs)) for key in keys]
        nav = [("All runs", "/"), *((key, run_link(key)) for key in keys if len(keys) > 1)]
        live = {"token": self._token, "version": version, "runs": list(keys)}
        return render_live(data, live=live, nav=nav)

    def _list(self, version: str) -> str:
        rows = []
        for key, folder in find_runs(self.root).items():
            rows.append({"key": key, "link": run_link(key), **_row(gather_run(folder))})
        return render_template(
            "runs.html.j2",
            title=f"Runs under {text.clean(self.root)}",
            rows=rows,
            compared_max=COMPARED_MAX,
            live=json_for_script({"token": self._token, "version": version, "runs": []}),
        )


def run_link(key: str) -> str:
    """The address of a run's page."""
    return "/run/" + quote(key, safe="/")


@functools.cache
def served_asset(name: str) -> bytes:
    """A script or style sheet. Raises CheckpointNotFoundError for any other name."""
    if name not in ASSETS:
        raise CheckpointNotFoundError(f"There is no asset {name!r}")
    return (vega_asset() if name == "vega.js" else asset(name)).text.encode()


def _row(run: RunData) -> dict[str, Any]:
    bests = [
        f"{metric} {text.number(c.metrics[metric])} at {c.step:,}"
        for metric in run.directions
        for c in run.kept
        if metric in c.best_by
    ]
    newest = run.kept[-1] if run.kept else None
    return {
        "name": run.name,
        "steps": run.last_step,
        "kept": len(run.kept),
        "best": "; ".join(bests),
        "size": text.size(sum(int(c.cost.get("bytes_written", c.bytes)) for c in run.kept)),
        "saved": text.moment(newest.time) if newest is not None else "",
        "notes": len(run.notes),
    }
