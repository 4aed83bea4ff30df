"""Watching a served model: counts, latency, errors, what comes in and goes out, and its drift.

Monitor            wraps the serving of any artifact; needs NumPy and nothing else
Feature            a number recorded for each item served, such as the length of its input
Profile            what the features were on reference data, captured at export
sequence_features  the usual ones of a sequence model
MetricsText        Prometheus text of a monitor, as a string or a file (extra `monitor`)
serve_metrics      the same and JSON over HTTP, on the loopback interface
"""

from holdfast.monitor.drift import DriftReport, FeatureDrift, compare_windows
from holdfast.monitor.endpoint import MetricsServer, serve_metrics
from holdfast.monitor.features import SEQUENCE_FEATURES, Feature, sequence_features
from holdfast.monitor.monitor import Monitor, Request
from holdfast.monitor.profile import Profile
from holdfast.monitor.prometheus import MetricsText

__all__ = [
    "SEQUENCE_FEATURES",
    "DriftReport",
    "Feature",
    "FeatureDrift",
    "MetricsServer",
    "MetricsText",
    "Monitor",
    "Profile",
    "Request",
    "compare_windows",
    "sequence_features",
    "serve_metrics",
]
