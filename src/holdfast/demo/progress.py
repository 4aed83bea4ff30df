"""Showing training as it goes: a moving line on a terminal, a few plain lines elsewhere."""

from __future__ import annotations

from collections import deque
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from typing_extensions import Self

from holdfast.demo.events import Evaluated, Event, Saved, Started, Stepped

_WINDOW_STEPS = 50


class Rate:
    """Steps and tokens of the last steps: mean loss, and tokens a second."""

    def __init__(self) -> None:
        self._window: deque[Stepped] = deque(maxlen=_WINDOW_STEPS)

    def add(self, event: Stepped) -> None:
        """Take in a step; after a resume, which goes back in time, begin anew."""
        if self._window and event.step <= self._window[-1].step:
            self._window.clear()
        self._window.append(event)

    @property
    def loss(self) -> float:
        """Mean loss of the window."""
        return sum(event.loss for event in self._window) / max(1, len(self._window))

    @property
    def tokens_per_second(self) -> float:
        """Target tokens a second over the window, 0 before the second step."""
        if len(self._window) < 2:
            return 0.0
        seconds = self._window[-1].seconds - self._window[0].seconds
        tokens = sum(event.tokens for event in self._window) - self._window[0].tokens
        return tokens / seconds if seconds > 0 else 0.0


class ProgressView:
    """A context in which `show` renders events; `say` prints a line that stays."""

    def __init__(self, console: Console, budget_seconds: float) -> None:
        self._console = console
        self._budget = budget_seconds
        self._rate = Rate()
        self._last: Stepped | None = None
        self._scores = ""
        self._bar = Progress(
            TextColumn("training"),
            BarColumn(bar_width=24),
            TextColumn("{task.description}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("starting", total=budget_seconds)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def say(self, text: str) -> None:
        """Print a line above the moving one, as it is."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def show(self, event: Event | str) -> None:
        """Render an event of the worker, or pass a line of its output on."""
        if isinstance(event, str):
            self.say(event)
        elif isinstance(event, Started):
            self._show_start(event)
        elif isinstance(event, Stepped):
            self._show_step(event)
        elif isinstance(event, Evaluated):
            self._scores = f"val_loss {event.val_loss:.3f}, val_bleu {event.val_bleu:.1f}"
        elif isinstance(event, Saved):
            self._show_save(event)

    def _show_start(self, event: Started) -> None:
        if event.fresh:
            self.say(
                f"Training on {event.sentences:,} sentence pairs, "
                f"{event.parameters / 1e6:.1f} million parameters."
            )
        else:
            self.say(event.checklist)

    def _show_step(self, event: Stepped) -> None:
        self._rate.add(event)
        self._last = event
        left = max(0, round(self._budget - event.seconds))
        text = (
            f"step {event.step}, loss {self._rate.loss:.3f}, "
            f"{self._rate.tokens_per_second:,.0f} tokens/s, {left // 60}:{left % 60:02d} left"
        )
        self._bar.update(self._task, completed=event.seconds, description=text)

    def _show_save(self, event: Saved) -> None:
        seconds = 0.0 if self._last is None else self._last.seconds
        scores = f", {self._scores}" if self._scores else ""
        self._scores = ""
        self.say(
            f"{seconds:6.1f} s  step {event.step:>5}  loss {self._rate.loss:.3f}{scores}  "
            f"saved in {event.save_seconds:.2f} s ({event.why})"
        )
