"""Which checkpoints are kept for averages to be reconstructed from."""

from __future__ import annotations

from itertools import pairwise

from policy_records import checkpoint

from holdfast.policy import KeepEMASnapshots, KeepLast


def test_between_n_and_2n_snapshots_stay_evenly_spaced_as_the_run_grows() -> None:
    """Pruned after every save, and never short of n once there were n."""
    rule = KeepEMASnapshots(8)
    history = []
    for step in range(1, 700):
        history.append(checkpoint(str(step), step))
        judged = rule.judge(history, now=0.0)
        history = [
            one
            for one, verdict in zip(history, judged, strict=True)
            if verdict.keep or one.global_step == step
        ]
        assert min(step, 8) <= len(history) <= 17
        if step > 16:
            gaps = {b.global_step - a.global_step for a, b in pairwise(history[:-1])}
            assert len(gaps) == 1


def test_it_reads_as_it_is_written() -> None:
    """repr is the expression, describe says what it keeps."""
    rule = KeepLast(2) | KeepEMASnapshots(8)
    assert repr(rule) == "KeepLast(2) | KeepEMASnapshots(8)"
    assert "8 to 16 snapshots" in rule.describe()
