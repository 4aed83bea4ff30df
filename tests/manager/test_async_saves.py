"""Saving in the background through the manager: what the user sees."""

from __future__ import annotations

import gc
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from manager_helpers import Session, new_manager, new_session, same
from torch import nn

from holdfast import CheckpointConfig, CheckpointManager, EMAModel
from holdfast.errors import ConfigError, HoldfastWarning, SaveError, WaitTimeoutError
from holdfast.values import CheckpointInfo


def train(manager: CheckpointManager, session: Session, steps: int) -> list[Path]:
    """A save after each step."""
    paths = []
    for step in range(1, steps + 1):
        session.step()
        path = manager.save(0, step, {"val_loss": 1.0 / step})
        assert path is not None
        paths.append(path)
    return paths


def test_what_is_saved_in_the_background_resumes_bit_for_bit(tmp_path: Path) -> None:
    """The state at the save comes back, though training had gone on."""
    session = new_session()
    manager = new_manager(tmp_path, session, async_save=True)
    path = train(manager, session, 3)[-1]
    saved = session.state()
    session.step()
    manager.wait()
    assert path.is_dir()
    assert manager.pending == ()
    other = new_session(1)
    report = new_manager(tmp_path, other).resume(verbose=False)
    assert report.global_step == 3
    assert same(saved, other.state())
    manager.close()


class Blocked:
    """A callback that holds the writer up."""

    def __init__(self) -> None:
        self.go = threading.Event()

    def __call__(self, path: Path, info: CheckpointInfo) -> None:
        """Hold the writer after its commit."""
        assert self.go.wait(60)


def test_pending_saves_have_their_names_and_their_place_in_the_run(tmp_path: Path) -> None:
    """`save` returns the path it will have, namesakes included, and sequences do not collide."""
    session = new_session()
    held = Blocked()
    manager = new_manager_with(tmp_path, session, on_commit=held, max_pending=3)
    first = manager.save(0, 1, {"val_loss": 1.0})
    session.step()
    second = manager.save(0, 1, {"val_loss": 0.5})
    third = manager.save(0, 2, {"val_loss": 0.7})
    assert manager.pending == (first, second, third)
    assert second is not None
    assert second.name.endswith("_2")
    held.go.set()
    manager.wait()
    found = manager.checkpoints()
    assert [info.name for info in found] == [p.name for p in (first, second, third) if p]
    assert [info.sequence for info in found] == [0, 1, 2]
    manager.close()


def new_manager_with(folder: Path, session: Session, **options: Any) -> CheckpointManager:
    """An asynchronous manager with callbacks."""
    callbacks = {k: options.pop(k) for k in ("on_commit", "on_failure") if k in options}
    config = CheckpointConfig(str(folder), progress=False, async_save=True, **options)
    return CheckpointManager(
        config, session.model, session.optimizer, session.scheduler, session.scaler, **callbacks
    )


def test_best_only_counts_what_is_pending(tmp_path: Path) -> None:
    """A metric that a pending save has already beaten is not best."""
    session = new_session()
    held = Blocked()
    manager = new_manager_with(
        tmp_path, session, on_commit=held, max_pending=3, save_best_only=True
    )
    assert manager.save(0, 1, {"val_loss": 1.0})
    assert manager.save(0, 2, {"val_loss": 0.5})
    assert manager.save(0, 3, {"val_loss": 0.7}) is None
    held.go.set()
    manager.close()


def test_a_skipped_save_is_recorded_with_its_reason(tmp_path: Path) -> None:
    """when_busy="skip" returns None, and `stats` tells why."""
    session = new_session()
    held = Blocked()
    manager = new_manager_with(tmp_path, session, on_commit=held, when_busy="skip")
    assert manager.save(0, 1)
    assert manager.save(0, 2) is None
    (skipped,) = manager.stats.skipped
    assert skipped.global_step == 2
    assert "still being written" in skipped.reason
    held.go.set()
    manager.close()
    assert "1 saves" in str(manager.stats)
    assert "1 skipped" in str(manager.stats)


def test_a_failure_is_raised_by_the_next_call_and_told_to_the_callback(tmp_path: Path) -> None:
    """The save whose turn it is raises it; the one after that is saved."""
    session = new_session()
    told: list[tuple[Path, BaseException]] = []
    manager = new_manager_with(
        tmp_path / "run",
        session,
        on_failure=lambda path, error: told.append((path, error)),
        save_retries=0,
    )
    manager.save(0, 1, {"val_loss": 1.0})
    manager.wait()
    break_folder()
    path = manager.save(0, 2, {"val_loss": 1.0})
    manager._parts.saving.saves.drain()
    with pytest.raises(SaveError):
        manager.save(0, 3, {"val_loss": 1.0})
    assert [where for where, _ in told] == [path]
    mend_folder()
    assert manager.save(0, 3, {"val_loss": 1.0})
    manager.close()
    assert [info.global_step for info in manager.checkpoints()] == [1, 3]


def break_folder() -> None:
    """Let every save fail: a limit on file sizes hits the first tensor file."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


def mend_folder() -> None:
    """Lift the limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


def test_failures_may_leave_training_alone(tmp_path: Path) -> None:
    """on_save_error="warn" warns at the next call and goes on."""
    session = new_session()
    manager = new_manager_with(tmp_path, session, on_save_error="warn", save_retries=0)
    break_folder()
    try:
        manager.save(0, 1, {"val_loss": 1.0})
        manager._parts.saving.saves.drain()
    finally:
        mend_folder()
    with pytest.warns(HoldfastWarning, match="training goes on"):
        assert manager.save(0, 2, {"val_loss": 1.0})
    manager.close()
    assert [info.global_step for info in manager.checkpoints()] == [2]


def test_close_tells_of_failures(tmp_path: Path) -> None:
    """A failure nobody asked about is raised by close, at the latest."""
    session = new_session()
    manager = new_manager_with(tmp_path, session, save_retries=0)
    break_folder()
    try:
        manager.save(0, 1, {"val_loss": 1.0})
        with pytest.raises(SaveError):
            manager.close()
    finally:
        mend_folder()


def test_waiting_is_bounded(tmp_path: Path) -> None:
    """wait(timeout) names what is pending."""
    session = new_session()
    held = Blocked()
    manager = new_manager_with(tmp_path, session, on_commit=held)
    manager.save(0, 1)
    with pytest.raises(WaitTimeoutError, match="step00000001"):
        manager.wait(0.01)
    held.go.set()
    manager.close()


@pytest.mark.parametrize(
    "options",
    [
        {"max_pending": 0},
        {"when_busy": "hurry"},
        {"when_busy": "drop"},
        {"close_timeout_seconds": 0},
    ],
)
def test_options_that_cannot_work_are_refused(options: dict[str, Any]) -> None:
    """The configuration says what to use instead."""
    with pytest.raises(ConfigError):
        CheckpointConfig(**options)


PROGRAM = """
import sys
import torch
from torch import nn
from holdfast import CheckpointConfig, CheckpointManager

torch.manual_seed(0)
model = nn.Sequential(*[nn.Linear(512, 512) for _ in range(4)])
optimizer = torch.optim.AdamW(model.parameters())
config = CheckpointConfig(sys.argv[1], async_save=True, progress=False, save_total_limit=3)
manager = CheckpointManager(config, model, optimizer)
steps = int(sys.argv[2])
for step in range(1, steps + 1):
    model(torch.ones(2, 512)).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()
    manager.save(0, step, {"val_loss": 1.0})
    print(step, flush=True)
if len(sys.argv) > 3:
    raise RuntimeError("training crashed")
"""


@pytest.mark.parametrize("crash", [[], ["crash"]], ids=["ends", "crashes"])
def test_the_end_of_the_interpreter_finishes_pending_saves(
    tmp_path: Path, crash: list[str]
) -> None:
    """A script that neither waits nor closes, or dies of an exception, loses nothing."""
    command = [sys.executable, "-c", PROGRAM, str(tmp_path), "2", *crash]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode != 0) == bool(crash)
    manager = new_manager(tmp_path, new_session())
    assert [info.global_step for info in manager.checkpoints()] == [1, 2]
    assert "finishing" in result.stderr


@pytest.mark.parametrize("delay", [0.0, 0.01, 0.04])
def test_a_kill_at_any_moment_leaves_whole_checkpoints(tmp_path: Path, delay: float) -> None:
    """Whatever was pending, every checkpoint that is visible verifies."""
    command = [sys.executable, "-c", PROGRAM, str(tmp_path), "1000000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(4):
            process.stdout.readline()
        time.sleep(delay)
        os.kill(process.pid, signal.SIGKILL)
    model = nn.Sequential(*[nn.Linear(512, 512) for _ in range(4)])
    optimizer = torch.optim.AdamW(model.parameters())
    config = CheckpointConfig(str(tmp_path), progress=False)
    report = CheckpointManager(config, model, optimizer).resume(verbose=False)
    assert report.global_step >= 2
    assert report.passed_over == ()


def held() -> tuple[int, int, int]:
    """Threads, descriptors and bytes of memory of this process."""
    gc.collect()
    return len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd")), memory()


@pytest.mark.parametrize("saves", [100, pytest.param(500, marks=pytest.mark.soak)])
def test_nothing_leaks_over_hundreds_of_saves(
    saves: int, ground: Path, tell: Callable[[str], None]
) -> None:
    """Threads and descriptors are the same after each fifth of them, memory is flat."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(128, 128), nn.BatchNorm1d(128), nn.Linear(128, 128))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    ema = EMAModel(model, 0.9)
    ema.attach(optimizer)
    config = CheckpointConfig(
        str(ground), async_save=True, save_total_limit=2, progress=False, provenance=False
    )
    manager = CheckpointManager(config, model, optimizer)
    manager.register("ema", ema)
    figures = []
    for step in range(1, saves + 1):
        model(torch.randn(4, 128)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        manager.save(0, step, {"val_loss": 1.0})
        if step % (saves // 5) == 0:
            manager.wait()
            figures.append(held())
    overlapped = sum(cost.mode == "overlapped" for cost in manager.stats.saves)
    manager.close()
    threads, files, resident = zip(*figures, strict=True)
    growth = resident[-1] - resident[0]
    tell(
        f"leaks, async: {saves} saves, {overlapped} copied beside training; threads {threads[-1]}, "
        f"descriptors {files[-1]}, memory grew by {growth >> 10} KiB after the first fifth"
    )
    assert overlapped == saves - 1
    assert len(set(threads)) == 1
    assert len(set(files)) == 1
    assert growth < 4 << 20


def memory() -> int:
    """Resident memory of this process, in bytes."""
    text = Path("/proc/self/statm").read_text()
    return int(text.split()[1]) * os.sysconf("SC_PAGE_SIZE")
