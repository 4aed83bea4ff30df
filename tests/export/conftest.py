"""Exports take seconds, so that each is made once and copied."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from export_world import QUICK, new_tagger, ready

from holdfast.errors import HoldfastWarning
from holdfast.export.formats import FORMATS, Artifact, FormatOptions
from holdfast.export.prepare import Prepared


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tagger() -> Prepared:
    """The tagger, prepared; its context is closed, so that other tests may compute gradients."""
    with ready(new_tagger().eval()) as found:
        return found


@pytest.fixture(scope="session")
def written(
    tagger: Prepared, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Artifact]]:
    """A folder with the tagger in every quick format; not to be changed."""
    folder = tmp_path_factory.mktemp("written")
    artifacts = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HoldfastWarning)
        for name in QUICK:
            options = FormatOptions(external_data=True)
            artifacts[name] = FORMATS[name].write(tagger, folder, "model", options)
    return folder, artifacts


@pytest.fixture
def copied(
    written: tuple[Path, dict[str, Artifact]], tmp_path: Path
) -> Callable[[str], tuple[Path, Artifact]]:
    """Makes a copy of one format's files that may be damaged."""

    def copy(name: str) -> tuple[Path, Artifact]:
        folder, artifacts = written
        for file in artifacts[name].files:
            shutil.copy(folder / file, tmp_path / file)
        return tmp_path, artifacts[name]

    return copy
