"""Resume over damage: what is set aside, what is left alone, and when a fresh start is one."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from manager_helpers import FakeClock, new_manager, new_session, same

from holdfast.digest import digest_bytes
from holdfast.errors import (
    ConfigError,
    DamagedError,
    MismatchError,
    NewerFormatError,
    NothingToResumeError,
)
from holdfast.session import LiveObjects
from holdfast.session.resume import resume_newest
from holdfast.storage import LocalRun
from holdfast.storage.opened import LocalOpened


def trained(folder: Path, count: int = 3) -> list[Path]:
    """A run with checkpoints of steps 1 to count, its manager closed."""
    session = new_session()
    paths = []
    with new_manager(folder, session) as manager:
        for step in range(1, count + 1):
            session.step()
            path = manager.save(0, step, {"val_loss": 1.0 / step})
            assert path is not None
            paths.append(path)
    return paths


def flip(file: Path, position: int = -1) -> None:
    """Change one bit."""
    data = bytearray(file.read_bytes())
    data[position] ^= 1
    file.write_bytes(data)


def test_a_damaged_checkpoint_is_renamed_with_the_reason_and_never_deleted(tmp_path: Path) -> None:
    """Its bytes stay, its damage is listed in full, and nothing finds it any more."""
    paths = trained(tmp_path)
    flip(paths[2] / "model.safetensors")
    flip(paths[2] / "optimizer.safetensors")
    before = (paths[2] / "model.safetensors").read_bytes()
    manager = new_manager(tmp_path, new_session(1))
    report = manager.resume(verbose=False)
    aside = tmp_path / f"damaged-{paths[2].name}"
    assert dict(report.quarantined) == {paths[2].name: aside.name}
    assert (aside / "model.safetensors").read_bytes() == before
    reason = (aside / "quarantine.txt").read_text()
    assert "model.safetensors: tensor" in reason
    assert "optimizer.safetensors: tensor" in reason
    assert f"set aside as {aside.name}" in report.checklist
    assert [info.global_step for info in manager.checkpoints()] == [1, 2]
    assert manager.resume(verbose=False).passed_over == ()


@pytest.mark.parametrize("file", ["manifest.json", "state.json", "model.safetensors"])
def test_a_missing_file_is_damage(tmp_path: Path, file: str) -> None:
    """A checkpoint that lost a file is set aside like one that lost a bit."""
    paths = trained(tmp_path, 2)
    (paths[1] / file).unlink()
    report = new_manager(tmp_path, new_session(1)).resume(verbose=False)
    assert report.global_step == 1
    assert list(report.quarantined) == [paths[1].name]


def test_a_folder_that_is_not_ours_keeps_its_name(tmp_path: Path) -> None:
    """Somebody's own folder is passed over with a word, not renamed."""
    trained(tmp_path, 1)
    (tmp_path / "checkpoint_of_mine").mkdir()
    (tmp_path / "checkpoint_of_mine" / "notes.txt").write_text("precious")
    report = new_manager(tmp_path, new_session(1)).resume(verbose=False)
    assert report.global_step == 1
    assert not report.quarantined
    assert (tmp_path / "checkpoint_of_mine" / "notes.txt").exists()


class FlakyRun(LocalRun):
    """Reading tensor data fails with an input/output error the first `failures` times."""

    failures = 0

    def open(self, name: str) -> LocalOpened:
        """Open it, unreliably."""
        run = self

        class Flaky(LocalOpened):
            def read_into(self, file: str, offset: int, buffer: memoryview) -> None:
                if run.failures and file == "model.safetensors":
                    run.failures -= 1
                    cause = OSError(errno.ESTALE, "Stale file handle")
                    raise DamagedError(f"Reading failed: {cause.strerror}") from cause
                super().read_into(file, offset, buffer)

        return Flaky(self.path / name)


@pytest.mark.parametrize(("failures", "step"), [(2, 2), (3, 1)])
def test_an_error_of_the_disk_is_tried_again_and_is_not_damage(
    tmp_path: Path, failures: int, step: int
) -> None:
    """What passes costs a pause; what does not is passed over and keeps its name."""
    paths = trained(tmp_path, 2)
    run, session, clock = FlakyRun(tmp_path), new_session(1), FakeClock()
    run.failures = failures
    renamed: list[str] = []

    def set_aside(name: str, damage: list[str]) -> str:
        renamed.append(name)
        return name

    report = resume_newest(
        run,
        LiveObjects(session.model, session.optimizer, session.scheduler, session.scaler),
        set_aside=set_aside,
        clock=clock,
    )
    assert report.global_step == step
    assert clock.sleeps == [0.5, 2.0]
    assert not renamed
    assert paths[1].exists()
    assert bool(report.passed_over) == (step == 1)


def test_a_checkpoint_of_other_objects_is_no_damage(tmp_path: Path) -> None:
    """A model that does not fit is an error; every checkpoint keeps its name."""
    paths = trained(tmp_path, 2)
    session = new_session()
    session.model = torch.nn.Linear(3, 3)
    with pytest.raises(MismatchError):
        new_manager(tmp_path, session).resume()
    assert all(path.exists() for path in paths)


def test_a_checkpoint_from_a_later_version_is_no_damage(tmp_path: Path) -> None:
    """Going back behind it in silence would lose work, renaming it would be wrong."""
    paths = trained(tmp_path, 2)
    manifest = paths[1] / "manifest.json"
    covered = manifest.read_text().replace('"version": 1', '"version": 2').rpartition('  "digest"')
    digest = digest_bytes(covered[0].encode())
    manifest.write_text(f'{covered[0]}  "digest": "{digest}"\n}}\n')
    assert json.loads(manifest.read_text())["version"] == 2
    with pytest.raises(NewerFormatError, match="newer holdfast"):
        new_manager(tmp_path, new_session(1)).resume()
    assert paths[1].exists()


def test_nothing_is_renamed_when_nothing_can_be_used(tmp_path: Path) -> None:
    """Otherwise the next start would find an empty folder and begin afresh in silence."""
    paths = trained(tmp_path, 2)
    for path in paths:
        flip(path / "state.json")
    for _ in range(2):
        with pytest.raises(NothingToResumeError, match="allow_fresh=True"):
            new_manager(tmp_path, new_session(1)).resume()
    assert all(path.exists() for path in paths)
    session = new_session(1)
    before = session.state()
    report = new_manager(tmp_path, session).resume(verbose=False, allow_fresh=True)
    assert report.fresh
    assert len(report.quarantined) == 2
    assert report.checklist.startswith("Fresh start")
    assert "passed over" in report.checklist
    assert same(before, session.state())


def test_a_fresh_start_can_be_forbidden(tmp_path: Path) -> None:
    """A job that must resume fails in an empty folder instead of starting from nothing."""
    with pytest.raises(NothingToResumeError, match="it holds none"):
        new_manager(tmp_path, new_session()).resume(allow_fresh=False)


def test_structural_verification_still_lets_no_damaged_byte_stay(tmp_path: Path) -> None:
    """Data is proven as it arrives; what is damaged is overwritten by the next older one."""
    paths = trained(tmp_path, 2)
    flip(paths[1] / "model.safetensors")
    session, reference = new_session(1), new_session(2)
    report = new_manager(tmp_path, session).resume(verbose=False, verify="structure")
    assert report.global_step == 1
    new_manager(tmp_path, reference).load(paths[0])
    assert same(session.state(), reference.state())


def test_no_fresh_start_with_half_a_checkpoint_in_the_model(tmp_path: Path) -> None:
    """If reading broke off over live tensors and nothing else is sound, that is an error."""
    paths = trained(tmp_path, 1)
    flip(paths[0] / "model.safetensors")
    with pytest.raises(NothingToResumeError, match="make them anew"):
        new_manager(tmp_path, new_session(1)).resume(verify="structure", allow_fresh=True)


def test_an_unknown_depth_is_refused(tmp_path: Path) -> None:
    """The depths are two."""
    with pytest.raises(ConfigError, match="structure"):
        new_manager(tmp_path, new_session()).resume(verify="deep")  # type: ignore[arg-type]


def test_a_reader_beside_the_writer_renames_nothing(tmp_path: Path) -> None:
    """While another process writes the run, resuming from it for an evaluation changes nothing."""
    paths = trained(tmp_path, 2)
    flip(paths[1] / "model.safetensors")
    code = (
        "import sys\nfrom pathlib import Path\nfrom holdfast.storage import LocalRun\n"
        "lock = LocalRun(sys.argv[1]).lock()\nprint('locked', flush=True)\nsys.stdin.read()\n"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"locked\n"
        report = new_manager(tmp_path, new_session(1)).resume(verbose=False)
        writer.communicate()
    assert report.global_step == 1
    assert not report.quarantined
    assert f"written by process {writer.pid}" in report.checklist
    assert paths[1].exists()
