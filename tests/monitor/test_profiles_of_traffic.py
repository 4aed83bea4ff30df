"""Reference profiles: what is kept of reference data, and how it is stored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from monitor_world import NAMES, profile_of, traffic

from holdfast.errors import ConfigError, FormatError
from holdfast.monitor import Profile, compare_windows


def test_a_profile_comes_back_from_its_file(tmp_path: Path) -> None:
    """Exactly, so that thirds and tenths still tie with what is served later."""
    items = traffic(np.random.default_rng(1), 900, unknown=0.3)
    profile = profile_of(items)
    read = Profile.read(profile.write(tmp_path / "profile.json"))
    for name, sample in profile.samples.items():
        np.testing.assert_array_equal(read.samples[name], sample)
    report = compare_windows(read, dict(zip(NAMES, items.T, strict=True)), 0.01)
    assert [one.distance for one in report.features] == [0.0] * 4


def test_a_profile_of_much_data_is_a_sample() -> None:
    """5,000 values each, the same ones every time."""
    items = traffic(np.random.default_rng(2), 7000)
    first, second = profile_of(items), profile_of(items)
    assert {len(sample) for sample in first.samples.values()} == {5000}
    for name in NAMES:
        np.testing.assert_array_equal(first.samples[name], second.samples[name])


def test_too_little_data_makes_no_profile() -> None:
    """Values that are no numbers do not count."""
    items = traffic(np.random.default_rng(3), 120)
    items[:30, 3] = np.nan
    with pytest.raises(ConfigError, match="90 values of confidence"):
        profile_of(items)


@pytest.mark.parametrize(
    "change",
    [
        {"schema": "holdfast-profile/9"},
        {"features": {"a": {"values": [1.0], "counts": [99]}}},
        {"features": {"a": {"values": [1.0], "counts": [10**12]}}},
        {"features": {"a": {"values": [1.0, 2.0], "counts": [100]}}},
        {"features": [1]},
    ],
)
def test_files_that_are_no_profiles_are_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    """Another schema, too little, impossibly much, or not of this form."""
    good = {"schema": "holdfast-profile/1", "features": {}}
    (tmp_path / "profile.json").write_text(json.dumps({**good, **change}))
    with pytest.raises(FormatError, match=r"profile\.json"):
        Profile.read(tmp_path / "profile.json")
