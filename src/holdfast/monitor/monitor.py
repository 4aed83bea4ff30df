"""What is recorded of each request, at the cost of some microseconds."""

from __future__ import annotations

import math
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar

import numpy as np

from holdfast.errors import ConfigError, HoldfastWarning
from holdfast.jsontext import Json
from holdfast.monitor.drift import DriftReport, compare_windows
from holdfast.monitor.features import SEQUENCE_FEATURES, Feature
from holdfast.monitor.histogram import LATENCY_BOUNDS, Histogram
from holdfast.monitor.profile import Profile

SCHEMA = "holdfast-monitor/1"
WINDOW_MIN = 50
_ERROR_KINDS_MOST = 32
_OTHER = "other"
_KEPT_MOST = 20_000

Result = TypeVar("Result")


class Monitor:
    """Counts requests, their latency and errors, and the features of the items they serve.

    labels: told with every metric, such as the model's name and version. features: recorded for
    each item. profile: of reference data; with it, every `window` items are tested for drift, with
    at most `false_alarm_rate` false alarms per window (see `monitor.drift`). on_drift: called with
    the report of each window that drifted, in the thread of the request that completed it; its
    errors become warnings.
    clock: monotonic seconds.

    Safe to use from several threads. Raises ConfigError for a window below 50, a rate that is none
    or a profile of features that are not recorded.
    """

    def __init__(
        self,
        labels: Mapping[str, str] | None = None,
        *,
        features: Sequence[Feature] = SEQUENCE_FEATURES,
        profile: Profile | None = None,
        window: int = 500,
        false_alarm_rate: float = 0.001,
        on_drift: Callable[[DriftReport], None] | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        names = [feature.name for feature in features]
        strangers = set(profile.samples if profile else ()) - set(names)
        if len(set(names)) != len(names) or strangers:
            raise ConfigError(
                f"Features need names of their own; the profile's are {sorted(strangers)} too many"
                if strangers
                else f"Features need names of their own: {names}"
            )
        if window < WINDOW_MIN or not 0.0 < false_alarm_rate < 1.0:
            raise ConfigError(
                f"A window of {window} items and a false alarm rate of {false_alarm_rate} say "
                "nothing",
                fix=f"use a window of {WINDOW_MIN} or more, and a rate between 0 and 1",
            )
        self.labels = dict(labels or {})
        self.features = tuple(features)
        self.profile = profile
        self._window, self._rate = window, false_alarm_rate
        self._on_drift, self._clock = on_drift, clock
        self._lock = threading.Lock()
        self._latency = Histogram(LATENCY_BOUNDS)
        self._histograms = tuple(Histogram(feature.bounds) for feature in features)
        self._requests = self._items = self._unusable = 0
        self._errors: dict[str, int] = {}
        self._rows: list[tuple[float, ...]] = []
        self._report: DriftReport | None = None
        self._windows = self._alarms = 0

    def request(self) -> Request:
        """A context around the serving of one request."""
        return Request(self, self._clock)

    def wrap(
        self,
        serve: Callable[..., Result],
        describe: Callable[[Result], Sequence[Sequence[float]]] | None = None,
    ) -> Callable[..., Result]:
        """`serve`, recorded. describe: features of each item, in order, from its result."""

        def served(*arguments: Any, **named: Any) -> Result:
            with self.request() as request:
                result = serve(*arguments, **named)
                request.done()
                for values in describe(result) if describe is not None else ():
                    request.item(values)
            return result

        return served

    def capture(self, features: Sequence[str] | None = None) -> Profile:
        """The profile of the last items recorded (20,000 at most), for a monitor without one.

        features: some of those recorded, by default all. Raises ConfigError for a monitor with a
        profile, which keeps one window only, and for too few items.
        """
        if self.profile is not None:
            raise ConfigError(
                "This monitor has a profile", fix="capture with a monitor made without one"
            )
        names = [feature.name for feature in self.features]
        chosen = list(features) if features is not None else names
        if not set(chosen) <= set(names):
            raise ConfigError(f"Of {chosen} only {names} are recorded")
        with self._lock:
            rows = list(self._rows)
        columns = [names.index(name) for name in chosen]
        return Profile.capture(chosen, [[row[column] for column in columns] for row in rows])

    def record(
        self, seconds: float, items: Sequence[tuple[float, ...]], error: str | None = None
    ) -> None:
        """Count one request: how long it took, its items' features, and the error's class if any.

        What `request` does; for servers that measure by themselves.
        """
        full: list[tuple[float, ...]] | None = None
        with self._lock:
            self._requests += 1
            self._latency.add(seconds)
            if error is not None:
                known = error in self._errors or len(self._errors) < _ERROR_KINDS_MOST
                kind = error if known else _OTHER
                self._errors[kind] = self._errors.get(kind, 0) + 1
            for values in items:
                self._add(values)
            if self.profile is None:
                del self._rows[:-_KEPT_MOST]
            elif len(self._rows) >= self._window:
                full, self._rows = self._rows, []
        if full is not None and self.profile is not None:
            self._test(full, self.profile)

    def drift(self) -> DriftReport | None:
        """Of the last whole window; None before the first and without a profile."""
        return self._report

    def snapshot(self) -> dict[str, Json]:
        """Everything as plain values."""
        with self._lock:
            return {
                "schema": SCHEMA,
                "labels": dict(self.labels),
                "requests": self._requests,
                "errors": dict(self._errors),
                "items": self._items,
                "unusable_items": self._unusable,
                "latency_seconds": self._latency.to_dict(),
                "features": {
                    feature.name: histogram.to_dict()
                    for feature, histogram in zip(self.features, self._histograms, strict=True)
                },
                "drift": {
                    "windows": self._windows,
                    "alarms": self._alarms,
                    "window": self._window,
                    "false_alarm_rate": self._rate,
                    "last": None if self._report is None else self._report.to_dict(),
                },
            }

    def _add(self, values: tuple[float, ...]) -> None:
        self._items += 1
        if len(values) != len(self.features) or not all(map(math.isfinite, values)):
            self._unusable += 1
            return
        for histogram, value in zip(self._histograms, values, strict=True):
            histogram.add(value)
        self._rows.append(values)

    def _test(self, rows: list[tuple[float, ...]], profile: Profile) -> None:
        """Outside the lock: other requests are not kept waiting."""
        columns = np.asarray(rows, dtype=np.float32).T
        window = {f.name: column for f, column in zip(self.features, columns, strict=True)}
        report = compare_windows(profile, window, self._rate)
        with self._lock:
            self._windows += 1
            self._alarms += report.drifted
            self._report = report
        if report.drifted and self._on_drift is not None:
            try:
                self._on_drift(report)
            except Exception as error:  # noqa: BLE001 (told; the request it came with is served)
                message = f"on_drift failed on the report of a {report}: {error!r}"
                warnings.warn(HoldfastWarning(message), stacklevel=2)


class Request:
    """The serving of one request: time is taken from `with` to `done()`, or to the end."""

    __slots__ = ("_clock", "_items", "_monitor", "_seconds", "_started")

    def __init__(self, monitor: Monitor, clock: Callable[[], float]) -> None:
        self._monitor, self._clock = monitor, clock
        self._items: list[tuple[float, ...]] = []
        self._seconds: float | None = None
        self._started = 0.0

    def done(self) -> None:
        """The answer is there: what follows is not its latency."""
        self._seconds = self._clock() - self._started

    def item(self, values: Sequence[float]) -> None:
        """One item of the request, with its features in order."""
        self._items.append(tuple(values))

    def __enter__(self) -> Request:
        self._started = self._clock()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._seconds is None:
            self.done()
        name = None if kind is None else kind.__name__
        self._monitor.record(self._seconds or 0.0, self._items, name)
