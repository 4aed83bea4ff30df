"""A rank that raises, is killed or hangs at a chosen moment of a save."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rank_model import seed
from torch import nn

from holdfast import CheckpointConfig
from holdfast.errors import HoldfastError, SaveError
from holdfast.manager.parts import Parts, assemble
from holdfast.session import LiveObjects
from holdfast.storage import LocalRun

# Every moment at which a rank touches the place, and the two between.
MOMENTS_OF_ALL = ("join", "model", "optimizer", "rank", "settle", "written")
MOMENTS_OF_FIRST = ("stage", "state.json", "manifest.json", "publish")
_HANG_SECONDS_MAX = 60.0


@dataclass
class Trouble:
    """What happens to this rank, and when. released: a hang ends when this file appears."""

    kind: str = "none"
    moment: str = ""
    released: Path = Path("/nonexistent")

    def at(self, moment: str) -> None:
        """The rank has come to this moment."""
        if moment != self.moment:
            return
        if self.kind == "raise":
            raise SaveError(f"no luck at {moment}")
        if self.kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.kind == "hang":
            end = time.monotonic() + _HANG_SECONDS_MAX
            while not self.released.exists() and time.monotonic() < end:
                time.sleep(0.02)


class TroubledRun(LocalRun):
    """A run in which `trouble` strikes."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.trouble = Trouble()

    def stage(self, name: str, *, needed_bytes: int = 0) -> Any:
        """Stage; trouble may strike before it."""
        self.trouble.at("stage")
        return _Troubled(super().stage(name, needed_bytes=needed_bytes), self)

    def join(self, handle: str) -> Any:
        """Join; trouble may strike before it."""
        self.trouble.at("join")
        return _Troubled(super().join(handle), self)


class _Troubled:
    def __init__(self, inner: Any, run: TroubledRun) -> None:
        self._inner, self._run = inner, run

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def write_bytes(self, file: str, data: Any) -> None:
        self._run.trouble.at(file.split("-")[0])
        self._inner.write_bytes(file, data)

    def write_blocks(self, file: str, total: int, blocks: Iterable[Any], **options: Any) -> None:
        def troubled() -> Iterator[Any]:
            for number, block in enumerate(blocks):
                if number:
                    self._run.trouble.at(file.split("-")[0])
                yield block

        self._inner.write_blocks(file, total, troubled(), **options)

    def settle(self) -> None:
        self._run.trouble.at("settle")
        self._inner.settle()

    def publish(self, name: str | None = None) -> str:
        self._run.trouble.at("publish")
        return str(self._inner.publish(name))

    def __enter__(self) -> _Troubled:
        return self

    def __exit__(self, *error: Any) -> None:
        self._inner.__exit__(*error)
        self._run.trouble.at("written")


@contextmanager
def session(folder: Path, **options: Any) -> Iterator[tuple[Parts, TroubledRun, nn.Module]]:
    """A manager's parts over a troubled run, with a plain model, the same on all ranks."""
    seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 1))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(2, 8)).sum().backward()
    optimizer.step()
    run = TroubledRun(folder / "run")
    config = CheckpointConfig(str(folder / "run"), progress=False, link_unchanged=False, **options)
    parts = assemble(run, config, LiveObjects(model, optimizer), None, None, None)
    yield parts, run, model
    parts.context.writer.release()


def change(model: nn.Module, value: int) -> None:
    """Every weight says which step it is of."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(float(value))


def attempt(parts: Parts, step: int, timeout_seconds: float) -> str | None:
    """Save at `step`, here and now or in the background; the error's text, None if it went well."""
    parts.context.ranks.timeout_seconds = timeout_seconds
    try:
        parts.stepping.save(0, step, {"val_loss": 1.0}, None, None, None)
        parts.saving.wait()
    except HoldfastError as error:
        return f"{type(error).__name__}: {error}"
    return None


def all_moments(rank: int) -> tuple[str, ...]:
    """Every moment at which trouble can strike this rank."""
    return (
        MOMENTS_OF_ALL if rank else (*MOMENTS_OF_FIRST[:1], *MOMENTS_OF_ALL, *MOMENTS_OF_FIRST[1:])
    )


def survive(rank: int, folder: Path, cases: list[tuple[str, int, str]], async_save: bool) -> Any:
    """One failing save per case, each followed by one that must go well.

    Returns for each case this rank's error, the names visible right after it, and the error of the
    save that followed.
    """
    found = []
    with session(folder, async_save=async_save, save_total_limit=None) as (parts, run, model):
        assert attempt(parts, 1, 60.0) is None
        for number, (kind, where, moment) in enumerate(cases):
            released = folder / f"released-{number}"
            if rank == where:
                run.trouble = Trouble(kind, moment, released)
            change(model, 10 * number + 10)
            error = attempt(parts, 10 * number + 10, 1.0 if kind == "hang" else 60.0)
            visible = run.names()
            if rank != where:
                released.touch()
            run.trouble = Trouble()
            change(model, 10 * number + 11)
            found.append((error, visible, attempt(parts, 10 * number + 11, 60.0)))
    return found


def be_killed(rank: int, folder: Path, where: int, moment: str) -> str | None:
    """Save once well, then with a rank that is killed; the others' error."""
    with session(folder) as (parts, run, model):
        assert attempt(parts, 1, 60.0) is None
        if rank == where:
            run.trouble = Trouble("kill", moment)
        change(model, 2)
        return attempt(parts, 2, 60.0)
