"""A monitor as Prometheus metrics, by the client library."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from typing import Any

from holdfast.errors import ConfigError
from holdfast.monitor.monitor import Monitor

PREFIX = "holdfast"


class MetricsText:
    """The metrics of a monitor in Prometheus' text format, as they are when asked for.

    Raises ConfigError if prometheus-client is not installed.
    """

    def __init__(self, monitor: Monitor) -> None:
        self._client = _client()
        self._registry = self._client.CollectorRegistry()
        self._registry.register(_Collector(monitor, self._client))

    @property
    def content_type(self) -> str:
        """Of what `text` returns, for HTTP."""
        return str(self._client.CONTENT_TYPE_LATEST)

    def text(self) -> str:
        """All metrics."""
        return bytes(self._client.generate_latest(self._registry)).decode()

    def write(self, path: str | os.PathLike[str]) -> None:
        """Replace a text file, as the node exporter's textfile collector reads them (`*.prom`)."""
        self._client.write_to_textfile(os.fspath(path), self._registry)


class _Collector:
    """Turns a snapshot into metrics whenever it is asked: requests never wait for the library."""

    def __init__(self, monitor: Monitor, client: Any) -> None:
        self._monitor = monitor
        self._core = client.core
        self._names = sorted(monitor.labels)
        self._values = [monitor.labels[name] for name in self._names]

    def collect(self) -> Iterator[Any]:
        """Every metric; called by the library."""
        found: Any = self._monitor.snapshot()
        yield self._counter("requests", "Requests served, failed ones included", found["requests"])
        errors = self._core.CounterMetricFamily(
            f"{PREFIX}_errors",
            "Requests that failed, by class of error",
            labels=["error", *self._names],
        )
        for kind, count in found["errors"].items():
            errors.add_metric([kind, *self._values], count)
        yield errors
        yield self._counter("items", "Items in the requests", found["items"])
        yield self._counter(
            "unusable_items", "Items with features that are no numbers", found["unusable_items"]
        )
        yield self._histogram(
            "request_seconds", "Time from request to answer", found["latency_seconds"]
        )
        for feature in self._monitor.features:
            yield self._histogram(feature.name, feature.help, found["features"][feature.name])
        yield from self._drift(found["drift"])

    def _drift(self, drift: Any) -> Iterator[Any]:
        yield self._counter("drift_windows", "Windows tested for drift", drift["windows"])
        yield self._counter("drift_alarms", "Windows in which a feature drifted", drift["alarms"])
        if drift["last"] is None:
            return
        for key, text in (
            ("distance", "Kolmogorov-Smirnov distance of the last window from the profile"),
            ("p_value", "p-value of that distance, corrected for the number of features"),
            ("drifted", "1 if the feature drifted in the last window"),
        ):
            gauge = self._core.GaugeMetricFamily(
                f"{PREFIX}_drift_{key}", text, labels=["feature", *self._names]
            )
            for name, one in drift["last"]["features"].items():
                gauge.add_metric([name, *self._values], float(one[key]))
            yield gauge

    def _counter(self, name: str, text: str, value: float) -> Any:
        counter = self._core.CounterMetricFamily(f"{PREFIX}_{name}", text, labels=self._names)
        counter.add_metric(self._values, value)
        return counter

    def _histogram(self, name: str, text: str, found: Any) -> Any:
        family = self._core.HistogramMetricFamily(f"{PREFIX}_{name}", text, labels=self._names)
        buckets, running = [], 0
        for end, count in zip([*found["bounds"], float("inf")], found["counts"], strict=True):
            running += count
            buckets.append(("+Inf" if end == float("inf") else repr(float(end)), running))
        family.add_metric(self._values, buckets, found["sum"])
        return family


def _client() -> Any:
    try:
        client = importlib.import_module("prometheus_client")
        importlib.import_module("prometheus_client.core")
    except ModuleNotFoundError as error:
        raise ConfigError(
            "Prometheus metrics need prometheus-client, which is not installed",
            fix="pip install 'holdfast[monitor]'; snapshot() gives the same figures without it",
        ) from error
    return client
