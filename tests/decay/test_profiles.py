"""Power-function profiles: their widths, and how well stored ones make up a wanted one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.decay import (
    Profile,
    combine_profiles,
    gamma_of_sigma,
    plan_snapshots,
    sigma_of_gamma,
    snapshot_errors,
)
from holdfast.errors import ConfigError

SIGMAS = (0.02, 0.03, 0.075, 0.15, 0.20, 0.25)
# The survey's closed-form table: error by number of snapshots, tracking 0.05 and 0.10.
TABLE = {
    8: (0.245, 0.100, 0.012, 0.033, 0.075, 0.169),
    16: (0.120, 0.039, 0.003, 0.009, 0.023, 0.077),
    32: (0.040, 0.011, 9e-4, 0.002, 0.006, 0.034),
    64: (0.011, 0.003, 2e-4, 6e-4, 0.002, 0.014),
    128: (0.003, 7e-4, 6e-5, 1e-4, 4e-4, 0.006),
}
COEFFICIENTS = {8: 8, 16: 17, 32: 28, 64: 37, 128: 43}


@given(st.floats(0.005, 0.288))
def test_width_and_exponent_are_inverse(sigma: float) -> None:
    """Over the whole range of widths."""
    assert sigma_of_gamma(gamma_of_sigma(sigma)) == pytest.approx(sigma, rel=1e-12)


def test_exponents_are_those_of_the_paper() -> None:
    """The values known for common widths; the widest profile is the plain mean."""
    assert gamma_of_sigma(0.05) == pytest.approx(16.97, abs=0.005)
    assert gamma_of_sigma(0.10) == pytest.approx(6.94, abs=0.005)
    assert gamma_of_sigma(12**-0.5) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("count", TABLE)
def test_predicted_errors_are_those_of_the_closed_form_table(count: int) -> None:
    """To the digits printed there, and to the tenth by which holding the sum at 1 costs."""
    found = snapshot_errors(count, SIGMAS)
    for sigma, wanted in zip(SIGMAS, TABLE[count], strict=True):
        digit = 10.0 ** np.floor(np.log10(wanted) - (0 if wanted < 0.01 else 1))
        assert found[sigma][0] == pytest.approx(wanted, rel=0.1, abs=0.6 * digit)
    most = max(total for _, total in found.values())
    assert most == pytest.approx(COEFFICIENTS[count], rel=0.05)


def test_the_predicted_error_is_the_error_of_the_combined_profile() -> None:
    """Integrated numerically, the combination is as far from the wanted profile as was said."""
    stored = [Profile(t / 8, g) for g in (16.97, 6.94) for t in range(1, 9)]
    wanted = Profile(1.0, gamma_of_sigma(0.15))
    best = combine_profiles(stored, wanted)
    tau = (np.arange(400_000) + 0.5) / 400_000

    def profile(of: Profile) -> np.ndarray:
        inside = tau <= of.time
        density: np.ndarray = (of.gamma + 1) * tau**of.gamma / of.time ** (of.gamma + 1)
        density[~inside] = 0.0
        return density

    made = sum(c * profile(p) for c, p in zip(best.coefficients, stored, strict=True))
    target = profile(wanted)
    error = np.sqrt(((made - target) ** 2).sum() / (target**2).sum())
    assert best.error == pytest.approx(float(error), rel=1e-3)
    assert sum(best.coefficients) == pytest.approx(1.0, abs=1e-12)


def test_a_stored_profile_is_reconstructed_from_itself() -> None:
    """Coefficient 1, error 0."""
    stored = [Profile(t, g) for g in (16.97, 6.94) for t in range(1, 17)]
    best = combine_profiles(stored, stored[15])
    assert best.coefficients == tuple(float(place == 15) for place in range(32))
    assert (best.error, best.coefficient_sum) == (0.0, 1.0)


def test_snapshots_beyond_the_wanted_time_do_not_take_part() -> None:
    """They hold weights that the wanted average has never seen."""
    stored = [Profile(t, 6.94) for t in range(1, 9)]
    best = combine_profiles(stored, Profile(5.0, 4.0))
    assert best.coefficients[5:] == (0.0, 0.0, 0.0)
    with pytest.raises(ConfigError, match="or before"):
        combine_profiles(stored, Profile(0.5, 4.0))


def test_one_tracked_profile_is_much_worse_than_two() -> None:
    """32 snapshots, width 0.15: 0.035 instead of 0.002."""
    alone = snapshot_errors(32, [0.15], tracked=[0.10])[0.15][0]
    assert alone == pytest.approx(0.035, abs=0.002)


def test_a_plan_has_the_fewest_snapshots_that_are_enough() -> None:
    """One fewer would miss the wanted accuracy; the plan says what they cost."""
    wanted = (0.05, 0.075, 0.10, 0.15, 0.20)
    plan = plan_snapshots(wanted, max_error=0.01, steps=100_000, parameters=58_000_000)
    assert max(plan.errors.values()) <= 0.01
    fewer = snapshot_errors(plan.count - 1, wanted)
    assert max(error for error, _ in fewer.values()) > 0.01
    assert plan.bytes == plan.count * 2 * 58_000_000 * 4
    assert "12.1 GB" in str(plan)
    assert plan.every == pytest.approx(100_000 / plan.count)
    with pytest.raises(ConfigError, match="leave an error"):
        plan_snapshots([0.005], max_error=1e-6, steps=10, parameters=1)
