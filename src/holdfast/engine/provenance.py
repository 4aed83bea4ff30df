"""Where a checkpoint came from: host, command, source revision, versions, seeds."""

from __future__ import annotations

import functools
import platform
import re
import socket
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from holdfast.jsontext import Json

_SECRET = re.compile(r"(?i)(token|secret|passw|api[-_]?key|credential)")
_ARGUMENT_CHARS_MAX = 300
_ARGUMENTS_MAX = 60
_GIT_TIMEOUT_SECONDS = 5.0


def gather_provenance() -> dict[str, Json]:
    """Everything about this process that may help to explain a checkpoint later.

    Values after options that look like secrets are not recorded. Host, git state and versions are
    read once per process, since they are asked for at every save.
    """
    return {
        **_of_process(),
        "command": _command(sys.argv),
        "torch_seed": torch.initial_seed(),
    }


@functools.lru_cache(maxsize=1)
def _of_process() -> dict[str, Json]:
    return {
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "holdfast": _own_version(),
        "git": _git(Path.cwd()),
    }


def _own_version() -> str:
    try:
        return version("holdfast")
    except PackageNotFoundError:
        return "unknown"


def _command(argv: list[str]) -> list[Json]:
    shown: list[Json] = []
    hide_next = False
    for argument in argv[:_ARGUMENTS_MAX]:
        name, separator, _ = argument.partition("=")
        secret = argument.startswith("-") and _SECRET.search(name) is not None
        if hide_next and not argument.startswith("-"):
            shown.append("(hidden)")
        elif secret and separator:
            shown.append(f"{name}=(hidden)")
        else:
            shown.append(argument[:_ARGUMENT_CHARS_MAX])
        hide_next = secret and not separator
    return shown


def _git(folder: Path) -> Json:
    """Commit and whether tracked files differ from it; None outside a work tree or without git."""
    commit = _run_git(folder, "rev-parse", "HEAD")
    if commit is None:
        return None
    changes = _run_git(folder, "status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "dirty": None if changes is None else bool(changes)}


def _run_git(folder: Path, *arguments: str) -> str | None:
    try:
        run = subprocess.run(
            ["git", *arguments],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=_GIT_TIMEOUT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return run.stdout.strip() if run.returncode == 0 else None
