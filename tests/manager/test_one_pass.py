"""What is read how often: memory that nobody uses yet takes one pass, live memory two."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from manager_helpers import Session, new_manager, new_session

from holdfast.errors import DamagedError
from holdfast.session import LiveObjects, Wanted
from holdfast.session.folder import FolderSource
from holdfast.session.restore import restore_session
from holdfast.storage import LocalRun
from holdfast.storage.opened import LocalOpened


class MeteredRun(LocalRun):
    """Counts the bytes read of each file."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.read: Counter[str] = Counter()

    def open(self, name: str) -> LocalOpened:
        """Open one, with a meter."""
        run = self

        class Metered(LocalOpened):
            def read_into(self, file: str, offset: int, buffer: memoryview) -> None:
                run.read[file] += len(buffer)
                super().read_into(file, offset, buffer)

        return Metered(self.path / name)


def saved(folder: Path) -> tuple[Session, Path]:
    """A session after a step, saved."""
    session = new_session()
    session.step()
    path = new_manager(folder, session).save(0, 1)
    assert path is not None
    return session, path


def restore(run: LocalRun, path: Path, session: Session) -> None:
    """Restore all of it."""
    objects = LiveObjects(session.model, session.optimizer, session.scheduler, session.scaler)
    with FolderSource.open(run, path.name) as source:
        restore_session(source, objects, Wanted(rng=False))


def data_bytes(path: Path) -> int:
    """Bytes of tensor data in a file of ours."""
    return path.stat().st_size - 8 - int.from_bytes(path.read_bytes()[:8], "little")


def test_the_state_of_a_new_optimizer_is_read_once(tmp_path: Path) -> None:
    """Its tensors have new memory, so that proving and placing them is one pass."""
    _, path = saved(tmp_path)
    run = MeteredRun(tmp_path)
    restore(run, path, new_session(1))
    fresh = run.read["optimizer.safetensors"]
    again = new_session(2)
    again.step()
    run.read.clear()
    restore(run, path, again)
    live = run.read["optimizer.safetensors"]
    assert live - fresh == data_bytes(path / "optimizer.safetensors")


def test_damage_met_in_that_pass_changes_nothing(tmp_path: Path) -> None:
    """The model is not touched before the state of the new optimizer is proven."""
    _, path = saved(tmp_path)
    file = path / "optimizer.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    session = new_session(1)
    before: dict[str, Any] = session.state()
    with pytest.raises(DamagedError, match="optimizer"):
        restore(MeteredRun(tmp_path), path, session)
    after = session.state()
    assert all(torch.equal(after["model"][name], v) for name, v in before["model"].items())
    assert after["optimizer"] == before["optimizer"]
