"""Saves on a place that fails: what is tried again, what is said, and what stands afterwards."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
import torch
from manager_helpers import FakeClock, Session, new_session
from torch import nn

from holdfast import CheckpointConfig, EverySteps, KeepLast
from holdfast.errors import ConfigError, HoldfastWarning, NoSpaceError, SaveError, UnsavableError
from holdfast.manager.parts import Parts, assemble
from holdfast.session import LiveObjects
from holdfast.storage import MemoryRun
from holdfast.storage.memory import MemoryStaged


class FailingRun(MemoryRun):
    """Publishing fails with these errors, one after the other; counts attempts."""

    def __init__(self, *numbers: int, capacity_bytes: int | None = None) -> None:
        super().__init__(capacity_bytes=capacity_bytes)
        self.errors = list(numbers)
        self.attempts: list[str] = []

    def stage(self, name: str, *, needed_bytes: int = 0) -> MemoryStaged:
        """A checkpoint whose first file may fail."""
        run, staged = self, super().stage(name, needed_bytes=needed_bytes)
        self.attempts.append(name)

        class Failing(MemoryStaged):
            def publish(self, name: str | None = None) -> str:
                if run.errors:
                    cause = OSError(run.errors.pop(0), "injected")
                    raise SaveError("Could not publish") from cause
                return super().publish(name)

        staged.abort()
        return Failing(self, name)


def parts_over(run: MemoryRun, clock: FakeClock, **options: Any) -> Parts:
    """A manager's parts over a run in memory."""
    session: Session = new_session()
    retention, triggers = options.pop("retention", None), options.pop("triggers", None)
    config = CheckpointConfig("unused", progress=False, provenance=False, **options)
    objects = LiveObjects(session.model, session.optimizer)
    return assemble(run, config, objects, triggers, retention, clock)


def save(parts: Parts, step: int, **metrics: float) -> Path | None:
    """One save in epoch 0."""
    return parts.stepping.save(0, step, metrics, None, None, None)


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EAGAIN, errno.EINTR])
def test_an_error_that_can_pass_is_met_with_a_whole_new_attempt(number: int) -> None:
    """Each attempt stages anew, after a longer pause."""
    run, clock = FailingRun(number, number), FakeClock()
    assert save(parts_over(run, clock), 1) is not None
    assert len(run.attempts) == 3
    assert clock.sleeps == [0.5, 1.0]
    assert len(run.names()) == 1
    assert run.staged == []


def test_an_error_that_stays_is_raised_after_the_last_attempt() -> None:
    """Earlier checkpoints stand, and the manager can go on saving."""
    run, clock = FailingRun(*[errno.EIO] * 3), FakeClock()
    parts = parts_over(run, clock, save_retries=2)
    with pytest.raises(SaveError, match="Could not publish"):
        save(parts, 1)
    assert len(run.attempts) == 3
    assert save(parts, 2) is not None


def test_an_error_that_cannot_pass_is_not_tried_again() -> None:
    """A read-only file system does not become writable by asking twice."""
    run, clock = FailingRun(errno.EROFS), FakeClock()
    with pytest.raises(SaveError):
        save(parts_over(run, clock), 1)
    assert (len(run.attempts), clock.sleeps) == (1, [])


def test_no_pause_outlasts_the_grace_period() -> None:
    """With a kill a second away there is no time for the second pause."""
    run, clock = FailingRun(errno.EIO, errno.EIO, errno.EIO), FakeClock()
    parts = parts_over(run, clock)
    end = clock.now + 1.2
    parts.saving._attempts._seconds_left = lambda: end - clock.now
    with pytest.raises(SaveError):
        save(parts, 1)
    assert clock.sleeps == [0.5]


def test_a_failed_save_may_leave_training_alone(caplog: pytest.LogCaptureFixture) -> None:
    """With on_save_error="warn" each failure is warned of, counted, and told at the end."""
    run, clock = FailingRun(errno.EROFS, errno.EROFS), FakeClock()
    parts = parts_over(run, clock, on_save_error="warn")
    for step, count in ((1, "failure 1 of 1"), (2, "failure 2 of 2")):
        with pytest.warns(HoldfastWarning, match=count):
            assert save(parts, step) is None
    assert save(parts, 3) is not None
    parts.saving.failures.report()
    assert "2 of 3 saves FAILED, the last at step 2; the last one saved is of step 3" in caplog.text


class Unlisted(FailingRun):
    """A folder that cannot be listed while `broken`."""

    broken = False

    def names(self) -> list[str]:
        """Fails as a stale mount does."""
        if self.broken:
            raise OSError(errno.ESTALE, "Stale file handle")
        return super().names()


def test_a_run_folder_that_cannot_be_listed_is_a_failed_save() -> None:
    """It falls under the same policy, and the manager is usable when the mount is back."""
    run = Unlisted()
    parts = parts_over(run, FakeClock(), on_save_error="warn")
    run.broken = True
    with pytest.warns(HoldfastWarning, match="cannot be used: Stale file handle"):
        assert save(parts, 1) is None
    run.broken = False
    assert save(parts, 2) is not None


def test_a_request_that_failed_is_not_tried_at_every_step() -> None:
    """The failure is told once; a person may ask again."""
    run = FailingRun(*[errno.EROFS] * 9)
    parts = parts_over(run, FakeClock(), on_save_error="warn", triggers=EverySteps(10**9))
    run.append_line("save-now", b"")
    with pytest.warns(HoldfastWarning, match="failure 1 of 1"):
        assert parts.stepping.maybe_save(0, 1, None, None, None, end_of_epoch=False) is None
    assert parts.stepping.maybe_save(0, 2, None, None, None, end_of_epoch=False) is None
    assert len(run.attempts) == 1


def test_values_that_cannot_be_saved_always_raise() -> None:
    """A mistake in the program is not weather: on_save_error does not hide it."""
    parts = parts_over(FailingRun(), FakeClock(), on_save_error="warn")
    with pytest.raises(UnsavableError):
        parts.stepping.save(0, 1, {}, None, {"hook": lambda: None}, None)


def test_a_failed_save_changes_nothing_in_training() -> None:
    """Weights and random states are the same after a failure as before."""
    parts = parts_over(FailingRun(errno.EROFS), FakeClock())
    model = parts.context.objects.model
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    with pytest.raises(SaveError):
        save(parts, 1)
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in before.items())
    assert torch.equal(random, torch.get_rng_state())


def full_after(count: int, clock: FakeClock, **options: Any) -> tuple[MemoryRun, Parts]:
    """A run with room for `count` checkpoints, full of them."""
    probe = parts_over(MemoryRun(), clock)
    big = nn.Linear(200, 200)
    probe.context.objects.model = big
    save(probe, 1, val_loss=1.0)
    assert isinstance(probe.context.run, MemoryRun)
    size = sum(
        len(file) for files in probe.context.run.checkpoints.values() for file in files.values()
    )
    run = MemoryRun(capacity_bytes=size * count + (80 << 10))
    parts = parts_over(run, clock, **options)
    parts.context.objects.model = big
    for step in range(1, count + 1):
        save(parts, step, val_loss=1.0 / step)
    return run, parts


def test_a_full_disk_fails_by_default_and_deletes_nothing() -> None:
    """Nothing is given up for a checkpoint that does not exist yet, unless asked."""
    run, parts = full_after(2, FakeClock())
    with pytest.raises(NoSpaceError):
        save(parts, 3, val_loss=0.1)
    assert len(run.names()) == 2


def test_a_full_disk_may_be_answered_by_retention() -> None:
    """What this save would make superfluous goes first; newest, best and pinned ones stay."""
    run, parts = full_after(3, FakeClock(), on_disk_full="prune", retention=KeepLast(3))
    assert save(parts, 4, val_loss=0.1) is not None
    assert [name[-1] for name in run.names()] == ["2", "3", "4"]


def test_retention_that_frees_nothing_is_not_tried_twice() -> None:
    """If every checkpoint must stay, the disk is full and that is said."""
    run, parts = full_after(1, FakeClock(), on_disk_full="prune", retention=KeepLast(1))
    with pytest.raises(NoSpaceError):
        save(parts, 2, val_loss=5.0)
    assert len(run.names()) == 1


def test_a_full_disk_may_be_waited_for() -> None:
    """The save looks again until there is room, or the patience is over."""
    clock = FakeClock()
    run, parts = full_after(2, clock, on_disk_full="wait", disk_full_wait_seconds=20)
    with pytest.raises(NoSpaceError):
        save(parts, 3, val_loss=0.1)
    assert clock.sleeps == [5.0] * 4

    class Cleared(FakeClock):
        def sleep(self, seconds: float) -> None:
            super().sleep(seconds)
            run.checkpoints.pop(run.names()[0], None)

    clock.sleep = Cleared(clock.now).sleep  # type: ignore[method-assign]
    assert save(parts, 3, val_loss=0.1) is not None


@pytest.mark.parametrize(
    "options",
    [
        {"on_save_error": "ignore"},
        {"on_disk_full": "delete"},
        {"save_retries": -1},
        {"disk_full_wait_seconds": float("nan")},
    ],
    ids=str,
)
def test_policies_that_do_not_exist_are_refused(options: dict[str, Any]) -> None:
    """A misspelt policy is an error before training, with the choices."""
    with pytest.raises(ConfigError, match="What to do: use"):
        CheckpointConfig(**options)
