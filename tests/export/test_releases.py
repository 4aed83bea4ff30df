"""Releases: gated, described, versioned, whole or not there; and verified by anybody."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from export_world import SIGNATURE, new_tagger

from holdfast import CheckpointConfig, CheckpointManager
from holdfast.errors import (
    CheckpointNotFoundError,
    ConfigError,
    FormatError,
    GateError,
    InputError,
)
from holdfast.export import (
    About,
    CheckResult,
    Exportable,
    Release,
    Runner,
    exportable,
    load_released,
    release,
    verify_release,
)
from holdfast.export.rerunning import rerun_examples
from holdfast.jsontext import Json

pytestmark = pytest.mark.xdist_group("export")

METRIC: dict[str, Json] = {
    "name": "BLEU",
    "value": 31.25,
    "low": 30.1,
    "high": 32.4,
    "level": 0.95,
    "set": "test",
    "signature": "nrefs:1|tok:13a",
}
ABOUT = About("tagger", "Tags.", "Apache-2.0", [METRIC], ["Made for tests."])


def _greedy(eager: Mapping[str, Runner], artifact: Mapping[str, Runner]) -> CheckResult:
    ids = torch.tensor([[3, 4, 5]])
    same = torch.equal(eager["model"](ids)[0].argmax(-1), artifact["model"](ids)[0].argmax(-1))
    return CheckResult("tokens", same, "the same tokens", {"sentences": 1})


def _fails(eager: Mapping[str, Runner], artifact: Mapping[str, Runner]) -> CheckResult:
    return CheckResult("tokens", False, "2 of 3 tokens differ")


def _measure(runners: Mapping[str, Mapping[str, Runner]]) -> Mapping[str, Json]:
    rows: list[Json] = [[name, "1.0"] for name in runners]
    return {"columns": ["candidate", "ms"], "rows": rows, "notes": ["not really"]}


def _weights_only(path: Path, **more: Any) -> Release:
    """A release without a compiled format, which takes no time."""
    target = more.pop("target", None) or exportable(new_tagger(), SIGNATURE)
    return release(target, path, formats=["pt"], **more)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a training run."""
    folder = tmp_path_factory.mktemp("runs") / "tagger"
    config = CheckpointConfig(str(folder), progress=False)
    model = new_tagger()
    with CheckpointManager(config, model, torch.optim.AdamW(model.parameters())) as manager:
        saved = manager.save(1, 12, {"val_loss": 0.5}, model_config={"width": 8})
    assert saved is not None
    return saved


@pytest.fixture(scope="module")
def released(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Release:
    """The tagger as program, ONNX and .pt; not to be changed."""
    vocabulary = tmp_path_factory.mktemp("given") / "words"
    vocabulary.write_text("one\ntwo\n")
    target = exportable(
        new_tagger().train(),
        SIGNATURE,
        checks=(_greedy,),
        measure=_measure,
        files={"vocab.txt": vocabulary, "settings.json": b"{}"},
    )
    place = tmp_path_factory.mktemp("releases") / "1.0.0"
    made = release(
        target, place, weights=checkpoint, formats=["program", "onnx", "pt"], about=ABOUT
    )
    assert target.model.training
    return made


def test_a_release_holds_everything_and_verifies(released: Release) -> None:
    """Weights, artifacts, given files, card, record and sums; nothing else, nothing hidden."""
    assert {entry.name for entry in released.path.iterdir()} == {
        *("README.md", "SHA256SUMS", "card.json", "config.json", "examples.safetensors"),
        *("model.onnx", "model.pt", "model.pt2", "model.safetensors", "release.json"),
        *("settings.json", "vocab.txt"),
    }
    assert [entry.name for entry in released.path.parent.iterdir()] == ["1.0.0"]
    check = verify_release(released.path)
    assert not check.damaged, check.problems
    assert check.files == 11
    for line in (released.path / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256((released.path / name).read_bytes()).hexdigest() == digest


def test_the_card_says_what_how_and_how_well(released: Release, checkpoint: Path) -> None:
    """As JSON, and the same for people."""
    card = json.loads((released.path / "card.json").read_text())
    assert card["version"] == "1.0.0"
    assert card["digest"] == released.record.digest
    assert card["provenance"]["name"] == checkpoint.name
    assert card["provenance"]["run"] == "tagger"
    assert card["provenance"]["metrics"] == {"val_loss": 0.5}
    assert card["metrics"] == [METRIC]
    (graph,) = card["graphs"]
    assert graph["outputs"] == [
        {"name": "logits", "dtype": "float32", "shape": ["batch", "length", 20]}
    ]
    assert [one["format"] for one in card["artifacts"]] == ["program", "onnx"]
    assert all(one["passed"] and len(one["cases"]) > 5 for one in card["artifacts"])
    assert all(one["checks"][0]["text"] == "the same tokens" for one in card["artifacts"])
    assert [row[0] for row in card["latency"]["rows"]] == ["eager", "program", "onnx"]
    text = (released.path / "README.md").read_text()
    for wanted in (
        "license: Apache-2.0",
        "# tagger 1.0.0",
        "BLEU | 31.25 | 30.1 to 32.4 (95%) | test | nrefs:1\\|tok:13a",
        "| ids | int64 | [batch 1..5, length 1..12] | 0..19, padding 0 |",
        "Made for tests.",
        "a row of nothing but padding is refused",
        "global step: 12",
    ):
        assert wanted in text


def test_the_card_travels_inside_the_artifacts(released: Release) -> None:
    """A file that got separated still says what it is and how to call it."""
    import onnx

    model = onnx.load(str(released.path / "model.onnx"), load_external_data=False)
    inside = json.loads({p.key: p.value for p in model.metadata_props}["holdfast.card"])
    assert inside["digest"] == released.record.digest
    assert inside["graphs"]["model"] == SIGNATURE.to_dict()
    names = [value.name for value in model.graph.input]
    assert names == ["ids"]
    sizes = [dim.dim_param for dim in model.graph.input[0].type.tensor_type.shape.dim]
    assert sizes == ["batch", "length"]


def test_a_release_runs_without_torch_and_refuses_what_it_was_not_made_for(
    released: Release,
) -> None:
    """In a fresh process with NumPy and ONNX Runtime, garbage in is an error, not garbage out."""
    code = f"""
import sys, numpy as np
from holdfast.errors import InputError
from holdfast.export import load_released
graph = load_released({str(released.path)!r}, threads=1)
print(graph(np.array([[3, 4, 5]]))[0].argmax(-1).tolist())
for bad in ([[0, 0]], [[3] * 13], [[20]]):
    try:
        graph(np.array(bad))
    except InputError as error:
        print(error.what)
assert "torch" not in sys.modules and "holdfast.demo" not in sys.modules
"""
    run = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env={**os.environ}
    )
    tokens, *errors = run.stdout.splitlines()
    model = new_tagger().eval()
    assert json.loads(tokens) == model(torch.tensor([[3, 4, 5]])).argmax(-1).tolist()
    assert len(errors) == 3


@pytest.mark.parametrize("name", ["program", "onnx"])
def test_examples_run_again_where_it_is_served(released: Release, name: str) -> None:
    """Anyone can prove that their runtime gives the released answers."""
    check = rerun_examples(verify_release(released.path))
    assert not check.damaged, check.problems
    graph = load_released(released.path, format=name, threads=1)
    with pytest.raises(InputError):
        graph(np.zeros((1, 1), np.int64))


def test_the_same_content_is_released_once(tmp_path: Path) -> None:
    """Releasing again changes nothing; other content needs another version."""
    first = _weights_only(tmp_path / "2.1.0")
    before = {path.name: path.stat().st_mtime_ns for path in first.path.iterdir()}
    again = _weights_only(tmp_path / "2.1.0")
    assert (first.fresh, again.fresh) == (True, False)
    assert again.record.digest == first.record.digest
    assert {path.name: path.stat().st_mtime_ns for path in first.path.iterdir()} == before
    other = new_tagger()
    with torch.no_grad():
        other.inner.bias.add_(1)
    with pytest.raises(ConfigError, match=r"other content: weights differ") as caught:
        _weights_only(tmp_path / "2.1.0", target=exportable(other, SIGNATURE))
    assert "next version" in str(caught.value)
    with pytest.raises(ConfigError, match="licence"):
        _weights_only(tmp_path / "2.1.0", about=About(licence="MIT"))


@pytest.mark.parametrize("version", ["1.0", "v1.0.0", "01.0.0", "latest", "1.0.0/.."])
def test_versions_are_semantic(tmp_path: Path, version: str) -> None:
    """A folder's name is its version, unless one is given."""
    with pytest.raises(ConfigError, match="no semantic version"):
        _weights_only(tmp_path / "here", version=version)
    assert not list(tmp_path.iterdir())


def test_nothing_is_there_if_a_check_fails(tmp_path: Path) -> None:
    """Every problem is listed and the folder does not exist, not even hidden."""
    target = exportable(new_tagger(), SIGNATURE, checks=(_fails,))
    with pytest.raises(GateError, match="1 formats did not pass; nothing was released") as caught:
        release(target, tmp_path / "1.0.0", formats=["program"])
    assert caught.value.problems == ("program of model: tokens: 2 of 3 tokens differ",)
    assert not list(tmp_path.iterdir())


def test_refusals_can_be_allowed_and_are_told(tmp_path: Path) -> None:
    """The formats that pass are released; the card says which did not, and why."""
    target = exportable(new_tagger(), SIGNATURE, checks=(_fails,))
    made = release(target, tmp_path / "1.0.0", formats=["program", "pt"], allow_refusals=True)
    assert "left out: program of model: tokens: 2 of 3 tokens differ" in str(made)
    assert not (made.path / "model.pt2").exists()
    assert "refused: program of model" in (made.path / "README.md").read_text()
    with pytest.raises(ConfigError, match="has no program of 'model'"):
        load_released(made.path, format="program")
    assert not verify_release(made.path).damaged


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda f: (f / "model.pt").unlink(), "model.pt: missing"),
        (lambda f: (f / "model.pt").write_bytes(b"x"), "model.pt: its SHA-256 is"),
        (lambda f: (f / "extra").write_bytes(b"x"), "extra: not part of the release"),
        (lambda f: (f / "SHA256SUMS").unlink(), "has no SHA256SUMS"),
        (lambda f: (f / "SHA256SUMS").write_text("../x\n"), "Not a line of SHA256SUMS"),
        (lambda f: f.rename(f.with_name("2.0.0")), "named 2.0.0, the release is 1.0.0"),
        (lambda f: _edit(f, "1" * 64), "its digest is not that of its identity"),
    ],
    ids=["missing", "changed", "added", "no sums", "path in sums", "renamed", "identity"],
)
def test_whatever_is_changed_afterwards_is_found(tmp_path: Path, damage: Any, told: str) -> None:
    """Each file, what is not listed, the name and the record itself."""
    _weights_only(tmp_path / "1.0.0")
    damage(tmp_path / "1.0.0")
    (folder,) = tmp_path.iterdir()
    assert any(told in problem for problem in verify_release(folder).problems)


def _edit(folder: Path, digest: str) -> None:
    record = json.loads((folder / "release.json").read_text())
    record["identity"]["weights"] = digest
    (folder / "release.json").write_text(json.dumps(record))


def test_what_is_no_release_is_not_verified(tmp_path: Path) -> None:
    """A missing, foreign or broken record is said to be one."""
    with pytest.raises(CheckpointNotFoundError):
        verify_release(tmp_path)
    for content in (b"{}", b'{"schema": "holdfast-release/1"}', b"["):
        (tmp_path / "release.json").write_bytes(content)
        with pytest.raises(FormatError):
            verify_release(tmp_path)


def test_given_files_cannot_take_the_place_of_the_releases_own(tmp_path: Path) -> None:
    """Nor leave the folder."""
    for name in ("card.json", "../out", ".hidden"):
        target = exportable(new_tagger(), SIGNATURE, files={name: b"x"})
        with pytest.raises(ConfigError):
            _weights_only(tmp_path / "1.0.0", target=target)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ConfigError, match="no two of one name"):
        Exportable(new_tagger(), ())
