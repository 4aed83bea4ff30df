"""Watching, killing and comparing training processes; the processes here are tiny scripts."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict

import pytest
from rich.console import Console

from holdfast.demo.clock import TrainingClock
from holdfast.demo.events import Evaluated, Event, Finished, Saved, Started, Stepped, read_event
from holdfast.demo.progress import ProgressView, Rate
from holdfast.demo.supervise import KillMoment, Losses, Witness, watch
from holdfast.errors import HoldfastError

STARTED = Started(True, 0, 0.0, "Fresh start", 40_000, 2_300_000)


def step(number: int, seconds: float, loss: float = 1.5) -> Stepped:
    """A step of 100 tokens."""
    return Stepped(number, 0, loss, 100, seconds)


def saved(number: int) -> Saved:
    """A checkpoint after a step."""
    return Saved(number, f"checkpoint_{number}", "every 10 s", 0.1)


def as_line(event: Event) -> str:
    """The event as a worker writes it."""
    return json.dumps({"event": type(event).__name__.lower(), **asdict(event)})


def process(lines: Sequence[str], *, then: str = "") -> subprocess.Popen[str]:
    """A process that prints these lines and then runs a statement."""
    script = f"import sys, time\nfor line in {list(lines)!r}: print(line, flush=True)\n{then}"
    return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    "event", [STARTED, step(3, 1.25), Evaluated(3, 2.5, 10.0), saved(3), Finished(3, 9.0)]
)
def test_events_read_as_they_were_written(event: Event) -> None:
    """Every kind survives its line, each float bit for bit."""
    assert read_event(as_line(event)) == event


@pytest.mark.parametrize(
    "line", ["", "a warning", "{", "[1]", '{"event": "party"}', '{"event": "finished"}', "17"]
)
def test_other_lines_are_no_events(line: str) -> None:
    """Warnings, and a line cut off by a kill, are text."""
    assert read_event(line) is None


def test_a_worker_is_followed_to_its_end() -> None:
    """Events and other lines arrive in order."""
    shown: list[object] = []
    events: list[Event] = [STARTED, step(1, 0.5), Finished(1, 0.5)]
    lines = [as_line(events[0]), "a warning", *(as_line(event) for event in events[1:])]
    assert watch(process(lines), Witness(), shown.append) is False
    assert shown == [events[0], "a warning", *events[1:]]


def test_a_worker_is_killed_at_the_moment() -> None:
    """It never gets to what it would have done next."""
    events: list[Event] = [saved(1), saved(2), *(step(n, 1.0 * n) for n in range(3, 30))]
    witness = Witness()
    worker = process([as_line(event) for event in events], then="time.sleep(600)")
    assert watch(worker, witness, lambda event: None, kill=KillMoment(12.0, 10.0)) is True
    assert worker.returncode not in (0, None)
    assert witness.losses.last_step >= 12


@pytest.mark.parametrize("then", ["sys.exit(3)", ""])
def test_a_worker_that_ends_early_is_an_error(then: str) -> None:
    """With a bad status, or with a good one but before it finished."""
    with pytest.raises(HoldfastError, match="training process ended"):
        watch(process([as_line(STARTED)], then=then), Witness(), lambda event: None)


def test_a_worker_does_not_outlive_an_interruption() -> None:
    """Ctrl-C in the parent takes the child along."""

    def interrupt(event: object) -> None:
        raise KeyboardInterrupt

    worker = process([as_line(STARTED)], then="time.sleep(600)")
    with pytest.raises(KeyboardInterrupt):
        watch(worker, Witness(), interrupt)
    assert worker.poll() is not None


def test_the_moment_waits_for_two_checkpoints_and_some_steps() -> None:
    """Past its time, with two saves, three steps and a good part of an interval after one."""
    moment = KillMoment(after_seconds=20.0, save_every_seconds=10.0)
    story: list[tuple[Event, bool]] = [
        (step(1, 9.0), False),
        (saved(1), False),
        (step(2, 21.0), False),
        (saved(2), False),
        (step(3, 22.0), False),
        (step(4, 23.0), False),
        (step(5, 24.0), False),
        (step(6, 25.5), True),
    ]
    for event, expected in story:
        assert moment.reached(event) is expected


def test_a_slow_machine_is_killed_all_the_same() -> None:
    """Where every step is saved, it is killed after a step that is not saved yet."""
    moment = KillMoment(after_seconds=20.0, save_every_seconds=10.0)
    found = []
    for number in range(1, 9):
        found.append(moment.reached(step(number, 12.0 * number)))
        moment.reached(saved(number))
    assert found.index(True) == 3


def test_repeated_steps_are_compared_bit_for_bit() -> None:
    """The last place counts; steps seen once do not."""
    losses = Losses()
    for number, loss in [(1, 0.1), (2, 0.3), (3, 0.5), (2, 0.1 + 0.2), (3, 0.5), (4, 0.7)]:
        losses.add(number, loss)
    assert (losses.repeated, losses.different, losses.last_step) == (2, [2], 4)


def test_the_clock_counts_training_only_and_survives() -> None:
    """Pauses are left out, and a resumed clock goes on from the stored count."""
    times = iter([0.0, 10.0, 12.0, 40.0, 43.0])
    clock = TrainingClock(20.0, now=lambda: next(times))
    clock.start()
    clock.tick()
    with clock.paused():
        pass
    clock.tick()
    assert clock.seconds == 5.0
    again = TrainingClock(20.0)
    again.load_state_dict(clock.state_dict())
    assert again.seconds == 5.0
    assert not again.over
    assert TrainingClock(5.0).passed(1.0, 0.0) is False


def test_an_interval_has_passed_when_a_multiple_of_it_lies_between() -> None:
    """Saves fall due by the count alone, so that a resumed run keeps the rhythm."""
    clock = TrainingClock(100.0)
    clock.load_state_dict({"seconds": 30.1})
    assert clock.passed(15.0, 29.9)
    assert not clock.passed(15.0, 30.05)


def test_the_rate_begins_anew_after_a_resume() -> None:
    """Steps that come again are not added to those before the kill."""
    rate = Rate()
    for event in [step(1, 1.0), step(2, 2.0), step(3, 3.0, loss=9.0), step(2, 2.0), step(3, 2.5)]:
        rate.add(event)
    assert rate.loss == 1.5
    assert rate.tokens_per_second == 200.0


@pytest.mark.parametrize("terminal", [False, True])
def test_progress_is_a_line_a_save_and_on_a_terminal_a_moving_one(terminal: bool) -> None:
    """Loss, scores and what was saved; steps, tokens per second and time left while it moves."""
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=120, legacy_windows=False)
    with ProgressView(console, 300.0) as view:
        view.show(STARTED)
        for number in (1, 2):
            view.show(step(number, float(number)))
        view.show(Evaluated(2, 2.5, 31.4))
        view.show(saved(2))
        view.show("a warning [as it is]")
    text = file.getvalue()
    assert "40,000 sentence pairs" in text
    assert "step     2  loss 1.500, val_loss 2.500, val_bleu 31.4  saved in 0.10 s" in text
    assert "a warning [as it is]" in text
    assert ("tokens/s, 4:58 left" in text) is terminal
