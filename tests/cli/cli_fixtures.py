"""The world of the examples, made once and copied for each test."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from cli_world import make_world


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world nobody may change."""
    folder = tmp_path_factory.mktemp("world")
    make_world(folder)
    return folder


@pytest.fixture(scope="session")
def hostile_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The world that means harm; nobody may change it either."""
    folder = tmp_path_factory.mktemp("hostile")
    make_world(folder, hostile=True)
    return folder


@pytest.fixture
def world(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A world of its own, as the current folder."""
    return _copied(template, tmp_path, monkeypatch)


@pytest.fixture
def hostile_world(hostile_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hostile world of its own, as the current folder."""
    return _copied(hostile_template, tmp_path, monkeypatch)


def _copied(template: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = place / "world"
    shutil.copytree(template, folder, symlinks=True)
    monkeypatch.chdir(folder)
    monkeypatch.delenv("HOLDFAST_RUN", raising=False)
    return folder
