"""A monitor's figures for Prometheus and over HTTP."""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from monitor_world import profile_of, traffic
from prometheus_client.parser import text_string_to_metric_families

from holdfast.errors import ConfigError
from holdfast.monitor import MetricsText, Monitor, serve_metrics


@pytest.fixture
def monitor() -> Monitor:
    """After two windows, the second of them shifted, and one error."""
    dice = np.random.default_rng(4)
    found = Monitor(
        {"model": "demo", "version": '1.0 "beta"'},
        profile=profile_of(traffic(dice, 2000)),
        window=100,
    )
    for items in (traffic(dice, 100), traffic(dice, 100, length=25.0)):
        found.record(0.03, [tuple(item) for item in items.tolist()])
    found.record(120.0, (), "TimeoutError")
    return found


def samples(text: str) -> dict[tuple[str, str], float]:
    """Value by metric and by the label that is not the model's."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            assert sample.labels.pop("model") == "demo"
            assert sample.labels.pop("version") == '1.0 "beta"'
            found[sample.name, "".join(sample.labels.values())] = sample.value
    return found


def test_the_text_says_what_the_snapshot_says(monitor: Monitor) -> None:
    """Counters, histograms with cumulative buckets, and the drift of each feature."""
    found = samples(MetricsText(monitor).text())
    assert found["holdfast_requests_total", ""] == 3
    assert found["holdfast_errors_total", "TimeoutError"] == 1
    assert found["holdfast_items_total", ""] == 200
    assert found["holdfast_request_seconds_bucket", "0.05"] == 2
    assert found["holdfast_request_seconds_bucket", "60.0"] == 2
    assert found["holdfast_request_seconds_bucket", "+Inf"] == 3
    assert found["holdfast_request_seconds_sum", ""] == pytest.approx(120.06)
    assert found["holdfast_input_tokens_count", ""] == 200
    assert found["holdfast_drift_windows_total", ""] == 2
    assert found["holdfast_drift_alarms_total", ""] == 1
    assert found["holdfast_drift_drifted", "input_tokens"] == 1
    assert found["holdfast_drift_p_value", "input_tokens"] < 0.001


def test_a_text_file_is_replaced_whole(monitor: Monitor, tmp_path: Path) -> None:
    """For the node exporter; nothing else is left beside it."""
    path = tmp_path / "holdfast.prom"
    path.write_text("stale")
    MetricsText(monitor).write(path)
    assert samples(path.read_text())["holdfast_requests_total", ""] == 3
    assert list(tmp_path.iterdir()) == [path]


def test_the_endpoint_answers_on_the_loopback_interface(monitor: Monitor) -> None:
    """Metrics, JSON, and 404 for anything else; the port is free afterwards."""
    with serve_metrics(monitor) as server:
        assert server.url.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(f"{server.url}/metrics") as answer:
            assert answer.headers["Content-Type"].startswith("text/plain")
            assert samples(answer.read().decode())["holdfast_requests_total", ""] == 3
        with urllib.request.urlopen(f"{server.url}/json") as answer:
            assert json.loads(answer.read())["requests"] == 3
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{server.url}/etc")
        refused.value.close()
        assert refused.value.code == 404
        port = int(server.url.rpartition(":")[2])
        with pytest.raises(ConfigError, match=str(port)):
            serve_metrics(monitor, port=port)
    with serve_metrics(monitor, port=port) as again:
        assert again.url == server.url


def test_without_the_library_the_error_names_the_extra(
    monitor: Monitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The monitor itself works without it."""
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(ConfigError, match="prometheus-client") as refused:
        MetricsText(monitor)
    assert "holdfast[monitor]" in str(refused.value)
