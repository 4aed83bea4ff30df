"""Shapes and masks of the Transformer."""

from __future__ import annotations

import pytest
import torch

from holdfast.demo.model import ModelConfig, TranslationTransformer, sinusoids
from holdfast.demo.vocab import BOS, PAD
from holdfast.errors import ConfigError

SOURCE = torch.tensor([[5, 6, 7, 2], [8, 9, 2, PAD]])
TARGET = torch.tensor([[BOS, 4, 5], [BOS, 6, 7]])


def test_logits_have_a_row_for_every_target_token(model: TranslationTransformer) -> None:
    """[B, S] and [B, T] ids give [B, T, V] logits."""
    assert model(SOURCE, TARGET).shape == (2, 3, 19)


def test_source_padding_changes_nothing(model: TranslationTransformer) -> None:
    """A sentence gets the same logits alone and beside longer ones."""
    padded = torch.nn.functional.pad(SOURCE, (0, 5), value=PAD)
    torch.testing.assert_close(model(padded, TARGET), model(SOURCE, TARGET))
    alone = model(SOURCE[1:, :3], TARGET[1:])
    torch.testing.assert_close(model(SOURCE, TARGET)[1:], alone)


def test_a_target_token_sees_nothing_after_it(model: TranslationTransformer) -> None:
    """Changing a later token leaves the earlier logits as they are."""
    changed = TARGET.clone()
    changed[:, 2] = 11
    before, after = model(SOURCE, TARGET), model(SOURCE, changed)
    torch.testing.assert_close(before[:, :2], after[:, :2])
    assert not torch.allclose(before[:, 2], after[:, 2])


def test_a_source_token_sees_the_whole_source(model: TranslationTransformer) -> None:
    """The encoder is not causal: the last source token reaches the first target token."""
    changed = SOURCE.clone()
    changed[0, 3] = 12
    assert not torch.allclose(model(SOURCE, TARGET)[0, 0], model(changed, TARGET)[0, 0])


def test_one_step_at_a_time_equals_all_at_once(model: TranslationTransformer) -> None:
    """Cached decoding gives the logits of the full decoder at every place."""
    expected = model(SOURCE, TARGET)
    state = model.start(SOURCE)
    for place in range(TARGET.shape[1]):
        logits, state = model.decode_step(TARGET[:, place], state)
        torch.testing.assert_close(logits, expected[:, place])


def test_a_selected_state_decodes_the_selected_sentences(model: TranslationTransformer) -> None:
    """Rows of a state may be reordered and repeated, as a beam does."""
    rows = torch.tensor([1, 1, 0])
    _, state = model.decode_step(TARGET[:, 0], model.start(SOURCE))
    logits, _ = model.decode_step(TARGET[rows, 1], state.select(rows))
    torch.testing.assert_close(logits, model(SOURCE, TARGET)[rows, 1])


def test_the_output_projection_is_the_target_embedding(model: TranslationTransformer) -> None:
    """One tensor under two names."""
    assert model.output.weight is model.target_embedding.weight
    assert {"output.weight", "target_embedding.weight"} <= set(model.state_dict())


def test_every_parameter_learns(model: TranslationTransformer) -> None:
    """The loss reaches all parameters."""
    model.train()
    model(SOURCE, TARGET).square().mean().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in model.parameters())


def test_the_default_size_is_two_to_three_million() -> None:
    """With vocabularies as the development corpus gives them."""
    model = TranslationTransformer(ModelConfig(6348, 4505))
    assert 2e6 < sum(p.numel() for p in model.parameters()) < 3e6


def test_positions_are_sines_and_cosines() -> None:
    """Position 0 is (0, 1, 0, 1, ...), and the first pair turns by one radian a place."""
    table = sinusoids(3, 4)
    torch.testing.assert_close(table[0], torch.tensor([0.0, 1.0, 0.0, 1.0]))
    torch.testing.assert_close(table[1, :2], torch.tensor([0.84147098, 0.54030231]))


def test_a_sequence_over_the_positions_is_refused(model: TranslationTransformer) -> None:
    """The error says how long it is and how many positions there are."""
    with pytest.raises(ConfigError, match="65 tokens"):
        model(torch.full((1, 65), 5), TARGET[:1])


def test_a_configuration_survives_its_dict() -> None:
    """What a checkpoint stores builds the same model; unknown names are refused."""
    config = ModelConfig(10, 12, width=32)
    assert ModelConfig.from_dict(config.to_dict()) == config
    with pytest.raises(ConfigError, match="wings"):
        ModelConfig.from_dict({**config.to_dict(), "wings": 2})


def test_a_width_that_does_not_divide_into_heads_is_refused() -> None:
    """Heads share the width evenly."""
    with pytest.raises(ConfigError, match="heads"):
        TranslationTransformer(ModelConfig(10, 10, width=18, heads=4))
