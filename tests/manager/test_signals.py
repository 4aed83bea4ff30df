"""Signals: saved at the next safe point, at once where nothing changes, ended by the second."""

from __future__ import annotations

import os
import queue
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import pytest
import torch
from manager_helpers import FakeClock, new_manager, new_session, same
from torch.utils.data import DataLoader, Dataset

from holdfast import CheckpointManager, EverySteps
from holdfast.errors import ConfigError

NEVER = EverySteps(10**9)


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    """Each test must leave the handlers as it found them."""
    watched = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
    before = [signal.getsignal(number) for number in watched]
    yield
    assert [signal.getsignal(number) for number in watched] == before


def raised(number: int) -> None:
    """Send a signal to this process; Python has handled it when this returns."""
    os.kill(os.getpid(), number)


def in_a_child(work: Callable[[], None]) -> int:
    """Run `work` in a forked child, which ends without any clean-up of the parent's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        code = 99
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return child


def saved(manager: CheckpointManager) -> list[tuple[int, str]]:
    """Step and reason of every checkpoint."""
    return [(info.global_step, info.reason.text) for info in manager.checkpoints()]


def test_a_stop_signal_saves_at_the_next_safe_point_and_once(tmp_path: Path) -> None:
    """The loop is told to stop, and going on a little does not save at every step."""
    manager = new_manager(tmp_path, new_session(), triggers=NEVER)
    with manager.handle_signals(grace_seconds=30):
        assert manager.maybe_save(0, 1) is None
        raised(signal.SIGTERM)
        assert manager.stop_requested
        assert manager.checkpoints() == []
        assert manager.maybe_save(0, 2) is not None
        assert manager.maybe_save(0, 3) is None
    assert saved(manager) == [(2, "training is ending: SIGTERM")]


def test_a_save_signal_saves_and_training_goes_on(tmp_path: Path) -> None:
    """SIGUSR1, which SLURM can send ahead of time, asks for a save and not for the end."""
    manager = new_manager(tmp_path, new_session(), triggers=NEVER)
    with manager.handle_signals():
        raised(signal.SIGUSR1)
        assert manager.maybe_save(0, 1) is not None
        assert manager.maybe_save(0, 2) is None
        assert not manager.stop_requested
    assert saved(manager) == [(1, "requested by SIGUSR1")]


def test_which_signals_mean_what_can_be_said(tmp_path: Path) -> None:
    """A cluster may use SIGUSR1 for the end itself."""
    manager = new_manager(tmp_path, new_session(), triggers=NEVER)
    with manager.handle_signals(stop=[signal.SIGUSR1], save=[]):
        raised(signal.SIGUSR1)
        assert manager.stop_requested


def test_a_validation_loop_can_ask_at_each_batch(tmp_path: Path) -> None:
    """`check` saves the last position when a signal came, and is nothing otherwise."""
    session = new_session()
    manager = new_manager(tmp_path, session, triggers=NEVER)
    with manager.handle_signals():
        session.step()
        manager.maybe_save(0, 1, {"val_loss": 2.0})
        assert manager.check() is None
        raised(signal.SIGTERM)
        assert manager.check() is not None
        assert manager.check() is None
        assert manager.maybe_save(0, 2) is None
    assert saved(manager) == [(1, "training is ending: SIGTERM")]
    assert dict(manager.checkpoints()[0].metrics) == {"val_loss": 2.0}


def test_steps_since_the_last_word_count(tmp_path: Path) -> None:
    """A save between two calls of maybe_save has the step that the weights have."""
    session = new_session()
    manager = new_manager(tmp_path, session, triggers=NEVER)
    with manager.handle_signals():
        manager.maybe_save(0, 1, {"val_loss": 2.0})
        session.step()
        session.step()
        raised(signal.SIGUSR1)
        manager.check()
    info = manager.checkpoints()[0]
    assert (info.global_step, dict(info.metrics)) == (3, {})


def test_inside_a_safe_point_a_signal_is_served_at_once(tmp_path: Path) -> None:
    """The save does not wait for the end of validation, and random states are those before it."""
    session = new_session()
    manager = new_manager(tmp_path, session, triggers=NEVER)
    with manager.handle_signals(grace_seconds=30):
        session.step()
        manager.maybe_save(0, 1)
        before = session.state()
        with manager.safe_point():
            torch.randn(100)
            raised(signal.SIGTERM)
            assert len(manager.checkpoints()) == 1
    other = new_session(1)
    new_manager(tmp_path, other).resume(verbose=False)
    assert same(before, other.state())


def test_a_wait_for_data_is_a_safe_point_too(tmp_path: Path) -> None:
    """A signal is served while the main thread is blocked in a queue."""
    manager = new_manager(tmp_path, new_session(), triggers=NEVER)
    batches: queue.Queue[int] = queue.Queue()

    def preempt() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        while not manager.checkpoints():
            pass
        batches.put(7)

    with manager.handle_signals():
        manager.maybe_save(0, 1)
        sender = threading.Thread(target=preempt)
        with manager.safe_point():
            sender.start()
            assert batches.get(timeout=60) == 7
        sender.join()
    assert saved(manager) == [(1, "training is ending: SIGTERM")]


def test_a_signal_after_the_last_safe_point_is_served_on_leaving(tmp_path: Path) -> None:
    """A loop that looks at stop_requested before it calls maybe_save again loses nothing."""
    with new_manager(tmp_path, new_session(), triggers=NEVER) as manager:
        manager.handle_signals()
        manager.maybe_save(0, 1)
        raised(signal.SIGTERM)
        assert manager.stop_requested
    assert saved(manager) == [(1, "training is ending: SIGTERM")]


class Interrupted:
    """An object whose state is captured just when a signal comes."""

    def state_dict(self) -> dict[str, int]:
        """Some state."""
        raised(signal.SIGUSR1)
        return {"n": 1}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Nothing to do."""


def test_a_signal_during_a_save_does_not_begin_another_inside_it(tmp_path: Path) -> None:
    """The wish is kept for the next safe point."""
    manager = new_manager(tmp_path, new_session(), triggers=NEVER)
    manager.register("interrupted", Interrupted())
    with manager.handle_signals():
        manager.maybe_save(0, 1)
        with manager.safe_point():
            manager.save(0, 1)
            assert len(manager.checkpoints()) == 1


def test_nothing_is_saved_before_training_stands_anywhere(tmp_path: Path) -> None:
    """A signal before the first position stops without a checkpoint of nothing."""
    manager = new_manager(tmp_path, new_session(), triggers=NEVER)
    with manager.handle_signals():
        raised(signal.SIGTERM)
        assert manager.check() is None
        assert manager.stop_requested


def test_handlers_in_place_are_called_and_come_back(tmp_path: Path) -> None:
    """What a launcher installed hears its signals as before."""
    heard: list[int] = []

    def theirs(number: int, frame: FrameType | None) -> None:
        heard.append(number)

    found = signal.signal(signal.SIGTERM, theirs)
    try:
        manager = new_manager(tmp_path, new_session(), triggers=NEVER)
        manager.handle_signals()
        raised(signal.SIGTERM)
        assert heard == [signal.SIGTERM]
        manager.close()
        assert signal.getsignal(signal.SIGTERM) is theirs
    finally:
        signal.signal(signal.SIGTERM, found)


def test_a_handler_installed_later_by_others_stays(tmp_path: Path) -> None:
    """Ours is taken away only where it still stands."""

    def later(number: int, frame: FrameType | None) -> None:
        """Somebody else's."""

    found = signal.getsignal(signal.SIGUSR1)
    manager = new_manager(tmp_path, new_session(), triggers=NEVER)
    try:
        with manager.handle_signals():
            signal.signal(signal.SIGUSR1, later)
        assert signal.getsignal(signal.SIGUSR1) is later
    finally:
        signal.signal(signal.SIGUSR1, found)


def test_an_ignored_interrupt_stays_ignored(tmp_path: Path) -> None:
    """A background job of a shell does not listen to Ctrl-C, with us neither."""
    found = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with new_manager(tmp_path, new_session(), triggers=NEVER) as manager:
            manager.handle_signals()
            raised(signal.SIGINT)
            assert not manager.stop_requested
    finally:
        signal.signal(signal.SIGINT, found)


def test_handling_signals_outside_the_main_thread_is_a_clear_error(tmp_path: Path) -> None:
    """Python allows no handlers there, and the error names the thread."""
    manager = new_manager(tmp_path, new_session(), triggers=NEVER)
    caught: list[BaseException] = []

    def work() -> None:
        try:
            manager.handle_signals()
        except ConfigError as error:
            caught.append(error)

    thread = threading.Thread(target=work, name="trainer")
    thread.start()
    thread.join()
    assert "main thread" in str(caught[0])
    assert "'trainer'" in str(caught[0])


class HandlersOfTheWorker(Dataset[int]):
    """Items tell whether the process that makes them has default handlers."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> int:
        return int(signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL)


def test_data_loader_workers_do_not_inherit_the_handlers(tmp_path: Path) -> None:
    """A worker dies of its signals as it would without us."""
    manager = new_manager(tmp_path, new_session(), triggers=NEVER)
    with manager.handle_signals(), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        loader = DataLoader(HandlersOfTheWorker(), num_workers=1, multiprocessing_context="fork")
        assert [int(batch) for batch in loader] == [1, 1]
        raised(signal.SIGUSR1)
        assert manager.maybe_save(0, 1) is not None


def test_the_same_signal_from_several_layers_is_one(tmp_path: Path) -> None:
    """A launcher and the batch system send SIGTERM within moments: that is not a second wish."""
    clock = FakeClock()
    manager = new_manager(tmp_path, new_session(), triggers=NEVER, clock=clock)
    with manager.handle_signals():
        raised(signal.SIGTERM)
        clock.now += 0.3
        raised(signal.SIGTERM)
        assert manager.maybe_save(0, 1) is not None


def test_a_second_signal_ends_the_process_at_once(tmp_path: Path) -> None:
    """It dies of that very signal, so that its parent sees why; what was committed stands."""

    def work() -> None:
        # A shell that starts the tests in the background has them ignore this one.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        clock = FakeClock()
        manager = new_manager(tmp_path, new_session(), triggers=NEVER, clock=clock)
        manager.handle_signals()
        manager.save(0, 1)
        raised(signal.SIGTERM)
        clock.now += 1
        raised(signal.SIGINT)

    _, status = os.waitpid(in_a_child(work), 0)
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGINT
    assert new_manager(tmp_path, new_session(1)).resume(verbose=False).global_step == 1


def test_a_preempted_process_saves_ends_and_is_continued(tmp_path: Path) -> None:
    """From outside: SIGTERM to a training process, which exits cleanly; the next one resumes."""
    reader, writer = os.pipe()

    def work() -> None:
        session = new_session()
        with new_manager(tmp_path, session, triggers=NEVER) as manager:
            manager.handle_signals(grace_seconds=60)
            step = 0
            while not manager.stop_requested:
                session.step()
                step += 1
                manager.maybe_save(0, step)
                if step == 3:
                    os.write(writer, b"training")

    child = in_a_child(work)
    assert os.read(reader, 8) == b"training"
    os.kill(child, signal.SIGTERM)
    assert os.waitpid(child, 0) == (child, 0)
    os.close(reader)
    os.close(writer)
    manager = new_manager(tmp_path, new_session(1))
    report = manager.resume(verbose=False)
    assert report.global_step >= 3
    assert manager.checkpoints()[-1].reason.text == "training is ending: SIGTERM"
    assert not (tmp_path / ".holdfast-lock").exists()
