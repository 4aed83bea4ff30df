"""What a machine offers holdfast, and whether a run folder is well. Without torch."""

from __future__ import annotations

import platform
import shutil
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from holdfast.cli.listing import catalog_of
from holdfast.cli.output import clean, paint, size_text
from holdfast.storage.lock import writer_of

_CORE = ("torch", "numpy", "safetensors", "xxhash", "typer")
_EXTRAS = {
    "demo": ("sacrebleu", "babel"),
    "report": ("matplotlib", "jinja2"),
    "onnx": ("onnx", "onnxruntime"),
    "hf": ("transformers", "accelerate"),
    "lightning": ("lightning",),
}
_LOW_BYTES = 1 << 30


@dataclass(frozen=True)
class Check:
    """One thing looked at. state: "ok", "note" or "bad"."""

    what: str
    state: str
    text: str


@dataclass(frozen=True)
class Surroundings:
    """Everything looked at."""

    checks: list[Check]

    @property
    def well(self) -> bool:
        """Whether nothing is bad."""
        return all(check.state != "bad" for check in self.checks)

    def as_data(self) -> list[dict[str, Any]]:
        """The checks as plain data."""
        return [{"what": c.what, "state": c.state, "text": c.text} for c in self.checks]

    def as_text(self) -> str:
        """A line for each."""
        colors = {"ok": "green", "note": "yellow", "bad": "red"}
        return "\n".join(
            f"{paint(f'{c.state:<4}', colors[c.state])} {c.what:<12} {clean(c.text)}"
            for c in self.checks
        )


def look_around(run: Path) -> Surroundings:
    """Look at versions, room on the disk, and the run folder if it is one."""
    checks = [Check("python", "ok", platform.python_version())]
    checks += [_package(name, "bad") for name in _CORE]
    checks += [
        Check(f"extra {extra}", "note" if lacking else "ok", _extra_text(extra, lacking))
        for extra, names in _EXTRAS.items()
        for lacking in [[name for name in names if _version(name) is None]]
    ]
    existing = next(path for path in (run, *run.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    checks.append(Check("disk", "note" if free < _LOW_BYTES else "ok", f"{size_text(free)} free"))
    if run.is_dir():
        checks += _of_run(run)
    return Surroundings(checks)


def _of_run(run: Path) -> list[Check]:
    catalog = catalog_of(run)
    if not catalog.entries and not catalog.unreadable:
        return [Check("run", "note", f"{run} holds no checkpoint")]
    checks = [Check("run", "ok", f"{len(catalog.entries)} checkpoints in {run}")]
    for unreadable in catalog.unreadable:
        checks.append(Check("run", "bad", f"{unreadable.name}: {unreadable.error.what}"))
    asides = [path.name for path in run.iterdir() if path.name.startswith("damaged-")]
    checks += [Check("run", "note", f"{name} was set aside as damaged") for name in asides]
    writer = writer_of(run)
    if writer is not None:
        state = writer.state()
        text = f"{writer} " + {"alive": "is writing", "ended": "ended without closing"}.get(
            state, "may be writing"
        )
        checks.append(Check("writer", "ok" if state == "alive" else "note", text))
    return checks


def _package(name: str, if_missing: str) -> Check:
    found = _version(name)
    return Check(name, if_missing if found is None else "ok", found or "is not installed")


def _extra_text(extra: str, lacking: list[str]) -> str:
    if not lacking:
        return "installed"
    return f"without {', '.join(lacking)}; pip install 'holdfast[{extra}]'"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
