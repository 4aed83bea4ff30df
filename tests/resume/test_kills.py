"""A run killed again and again ends as the run that nobody disturbed, bit for bit."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.xdist_group("resume-kills")

SCRIPT = Path(__file__).with_name("train_script.py")

Job = dict[str, Any]


class Server:
    """The training script in server mode; every job is a process of its own."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(SCRIPT), "--serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, folder: Path, result: Path, **job: Any) -> str:
        """Train in `folder`; return "killed", "finished" or "failed"."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        line = json.dumps({"folder": str(folder), "result": str(result), **job})
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()

    def close(self) -> None:
        """End the server."""
        self._process.communicate()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server for the tests of this file."""
    server = Server()
    yield server
    server.close()


@pytest.fixture(scope="module")
def undisturbed(server: Server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the run ends with when nobody kills it."""
    folder = tmp_path_factory.mktemp("undisturbed")
    assert server.run(folder / "run", folder / "result.json") == "finished"
    result: dict[str, str] = json.loads((folder / "result.json").read_text())
    return result


def _kills(seed: int) -> list[Job]:
    """26 random ways to be killed, none of them later than six steps after the start."""
    draw = random.Random(seed)
    jobs: list[Job] = [{"save_event": draw.randint(1, 60), "after_steps": 6} for _ in range(10)]
    jobs += [{"resume_event": draw.randint(1, 12), "after_steps": 1} for _ in range(3)]
    jobs += [{"at_batch": draw.randint(1, 4)} for _ in range(5)]
    jobs += [{"after_steps": draw.randint(1, 4)} for _ in range(4)]
    jobs += [{"after_seconds": draw.uniform(0, 0.2), "after_steps": 5} for _ in range(4)]
    draw.shuffle(jobs)
    return jobs


def _newest_step(folder: Path) -> int:
    names = [path.name for path in folder.glob("checkpoint_*")]
    return max((int(name.split("_step")[1].split("_")[0]) for name in names), default=0)


def _assert_equal_ends(found: dict[str, str], expected: dict[str, str]) -> None:
    paths = sorted(found.keys() | expected.keys())
    differing = [path for path in paths if found.get(path) != expected.get(path)]
    assert differing == []


@pytest.mark.slow
def test_killed_run_ends_as_the_undisturbed_one(
    server: Server, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    """After 26 kills in steps, saves and resumes, every weight, moment, counter, loss, metrics
    record and random stream is the same, and no commit was ever lost."""
    _run_through_kills(server, undisturbed, tmp_path, seed=26)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(100, 140))
def test_more_killed_runs_end_as_the_undisturbed_one(
    server: Server, undisturbed: dict[str, str], tmp_path: Path, seed: int
) -> None:
    """The same holds for 26 kills at other random points."""
    _run_through_kills(server, undisturbed, tmp_path, seed=seed)


def _run_through_kills(
    server: Server, undisturbed: dict[str, str], tmp_path: Path, *, seed: int
) -> None:
    folder, result = tmp_path / "run", tmp_path / "result.json"
    newest = 0
    for job in _kills(seed):
        assert server.run(folder, result, **job) == "killed", job
        assert _newest_step(folder) >= newest, job
        newest = _newest_step(folder)
    assert server.run(folder, result) == "finished"
    _assert_equal_ends(json.loads(result.read_text()), undisturbed)


def test_undisturbed_run_covers_every_kind_of_state(undisturbed: dict[str, str]) -> None:
    """The comparison is not empty: each kind of state is in it and has moved."""
    kinds = {path.split("/")[1].strip("'") for path in undisturbed if path}
    components = {"model", "optimizer", "scheduler", "scaler", "loader", "losses", "history", "ema"}
    assert kinds == components | {"python", "numpy", "torch", "generator"}
    assert undisturbed["/'scheduler'/'milestones'/40"] == "2"
    assert undisturbed["/'scaler'/'scale'"] != (64.0).hex()
    assert undisturbed["/'losses'"] == "list of 72"
