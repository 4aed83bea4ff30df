"""A model small enough to build in every test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from holdfast.demo.model import ModelConfig, TranslationTransformer


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Leave the other cores to the other tests."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def model() -> TranslationTransformer:
    """Random weights, two layers on each side, evaluation mode."""
    torch.manual_seed(7)
    config = ModelConfig(
        source_vocabulary=23,
        target_vocabulary=19,
        width=16,
        feedforward_width=32,
        heads=4,
        positions_max=64,
    )
    return TranslationTransformer(config).eval()
