"""Bad input to averages: a clear error or a reported exclusion, never a silent wrong average."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from selection_helpers import Tied, Words, damage, save_run, states
from torch import nn

from holdfast import average
from holdfast.errors import (
    CheckpointNotFoundError,
    ConfigError,
    DamagedError,
    FormatError,
    LoadError,
    MismatchError,
)
from holdfast.selection import average_state, read_recipe, rebuild, verify_recipe
from holdfast.weights import mean_of


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Three checkpoints of one run."""
    torch.manual_seed(0)
    return save_run(tmp_path / "run", Tied(), 3)


def test_mixed_architectures_are_refused_with_every_difference(
    tmp_path: Path, paths: list[Path]
) -> None:
    """Names, shapes and ties that differ are all listed, by member."""
    other = save_run(tmp_path / "wide", Tied(width=6), 1)
    linear = save_run(tmp_path / "linear", nn.Linear(3, 3), 1)
    with pytest.raises(MismatchError) as wide:
        average([*paths, *other])
    assert any("inner.weight has shape [6, 6], not [8, 8]" in str(p) for p in wide.value.problems)
    with pytest.raises(MismatchError) as alien:
        average([*linear, *paths])
    text = str(alien.value)
    assert "missing: " in text
    assert "there too: weight, bias" in text or "there too: bias, weight" in text
    assert not (tmp_path / "run" / "averages").exists()


def test_another_configuration_is_refused_unless_asked_for(tmp_path: Path) -> None:
    """Heads permuted or another tokenizer do not show in shapes: the configuration decides."""
    one = save_run(tmp_path / "one", Tied(), 1, config={"heads": 2, "width": 8})
    two = save_run(tmp_path / "two", Tied(), 1, config={"heads": 4, "width": 8})
    with pytest.raises(MismatchError, match=r"heads=2, not 4"):
        average([*one, *two], tmp_path / "out")
    average([*one, *two], tmp_path / "out", check_config=False)


def test_another_vocabulary_is_refused_by_content(tmp_path: Path) -> None:
    """Two vocabularies of one size are not one vocabulary."""
    one = save_run(tmp_path / "one", Tied(), 1, objects={"vocabulary": Words(["a", "b"])})
    two = save_run(tmp_path / "two", Tied(), 1, objects={"vocabulary": Words(["b", "a"])})
    with pytest.raises(MismatchError, match="vocabulary has the digest"):
        average([*one, *two], tmp_path / "out")


def test_other_dtypes_are_refused_unless_one_is_chosen(tmp_path: Path, paths: list[Path]) -> None:
    """Mixing precisions is fine once it is said what the result shall have."""
    half = save_run(tmp_path / "half", Tied().bfloat16(), 1)
    with pytest.raises(MismatchError, match="choose one with dtype="):
        average_state([*paths, *half])
    assert average_state([*paths, *half], dtype=torch.float32)["inner.bias"].dtype == torch.float32


def test_tables_that_differ_are_refused_and_can_be_chosen(tmp_path: Path) -> None:
    """There is no mean of indices or flags; the newest can be taken on purpose."""
    model = Tied()
    first = save_run(tmp_path / "run", model, 1)
    model.positions += 1
    model.mask[0] = False
    second = save_run(tmp_path / "more", model, 1, first_seed=5)
    with pytest.raises(MismatchError) as caught:
        average_state([*first, *second])
    assert len(caught.value.problems) == 2
    rules = {"positions": "newest", "mask": "newest"}
    assert "positions" in average_state([*first, *second], rules=rules)


def test_quantised_values_are_refused(tmp_path: Path) -> None:
    """float8 weights stand for others by a scale: their mean is not the mean of those."""

    class Eight(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("weight", torch.ones(4).to(torch.float8_e4m3fn))

    files = []
    for index in range(2):
        files.append(tmp_path / f"{index}.pt")
        torch.save({"model_state_dict": Eight().state_dict(), "epoch": index}, files[-1])
    with pytest.raises(MismatchError, match="quantised"):
        average_state(files)


@pytest.mark.parametrize("file", ["model.safetensors", "manifest.json", "state.json"])
def test_a_damaged_member_is_an_error_that_names_it(paths: list[Path], file: str) -> None:
    """One flipped bit: nothing is written, and the error says where it is."""
    damage(paths[1], file)
    with pytest.raises(LoadError, match=paths[1].name):
        average(paths)
    averages = paths[0].parent / "averages"
    assert not averages.exists() or not list(averages.iterdir())


@pytest.mark.parametrize("file", ["model.safetensors", "manifest.json"])
def test_a_damaged_member_can_be_left_out_and_is_reported(paths: list[Path], file: str) -> None:
    """The average is that of the others, their weights as they were, and says who is missing."""
    damage(paths[1], file)
    written = average(paths, weights=[1, 5, 2], on_damage="exclude")
    assert list(written.excluded) == [str(paths[1])]
    assert written.recipe.weights == (1, 2)
    (result,) = states([written.path])
    kept = [states([paths[i]])[0]["inner.weight"] for i in (0, 2)]
    assert torch.equal(result["inner.weight"], mean_of(kept, [1, 2]))


def test_too_few_sound_members_are_no_average(paths: list[Path]) -> None:
    """With all but one damaged there is nothing to average, whatever is allowed."""
    damage(paths[0])
    damage(paths[1])
    with pytest.raises(DamagedError, match="Only 1 of 3"):
        average(paths, on_damage="exclude")


def test_a_member_with_nan_is_an_error_or_left_out(tmp_path: Path) -> None:
    """A diverged checkpoint does not make the average NaN in silence."""
    model = Tied()
    paths = save_run(tmp_path / "run", model, 2)
    with torch.no_grad():
        model.inner.weight[0, 0] = float("nan")
    paths += save_run(tmp_path / "bad", model, 1)
    with pytest.raises(LoadError, match="NaN"):
        average_state(paths)
    written = average(paths, tmp_path / "out", on_damage="exclude")
    assert list(written.excluded) == [str(paths[2])]


def test_arguments_that_cannot_work_are_refused(paths: list[Path], tmp_path: Path) -> None:
    """No members, one twice, a wrong path, wrong weights, patterns that fit nothing."""
    calls: list[Callable[[], object]] = [
        lambda: average([]),
        lambda: average(paths[0]),  # type: ignore[arg-type]
        lambda: average([paths[0], paths[0]]),
        lambda: average(paths, weights=[1, 2]),
        lambda: average(paths, weights=[1, 2, 0]),
        lambda: average(paths, only=["encoder.*"]),
        lambda: average(paths, rules={"inner.*": "sum"}),
        lambda: average(paths, rules={"positions": "average"}),
        lambda: average(paths, dtype=torch.int64),
        lambda: average(paths, on_damage="ignore"),  # type: ignore[arg-type]
        lambda: average(paths, paths[0]),
    ]
    for call in calls:
        with pytest.raises(ConfigError):
            call()
    with pytest.raises(CheckpointNotFoundError):
        average([paths[0], tmp_path / "gone"])


def test_a_state_that_does_not_fit_the_model_is_refused(paths: list[Path]) -> None:
    """The seed's `model` argument is checked, not trusted."""
    with pytest.raises(MismatchError, match="does not fit the Linear"):
        average_state(paths, nn.Linear(2, 2))


def test_recipes_can_be_verified_and_rebuilt(tmp_path: Path, paths: list[Path]) -> None:
    """The same members give the same bits again, wherever they are now."""
    written = average(paths, weights=[1, 2, 3], only="inner.*", dtype=torch.float32)
    assert read_recipe(written.path) == written.recipe
    assert verify_recipe(written.path).holds
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    paths[1].rename(moved / "checkpoint_of_another_name")
    assert verify_recipe(written.path, search=[moved]).holds
    again = rebuild(written.path, tmp_path / "again", search=[moved])
    name = "model.safetensors"
    assert (again.path / name).read_bytes() == (written.path / name).read_bytes()


def test_a_recipe_with_members_gone_says_which(paths: list[Path]) -> None:
    """What was rotated away cannot be averaged again."""
    written = average(paths)
    paths[1].rename(paths[1].with_name(".gone"))
    with pytest.raises(CheckpointNotFoundError, match=paths[1].name):
        verify_recipe(written.path)


def test_another_checkpoint_under_a_members_name_is_not_taken_for_it(
    tmp_path: Path, paths: list[Path]
) -> None:
    """Members are known by digest, not by name."""
    written = average(paths)
    other = save_run(tmp_path / "other", Tied(), 1)[0]
    paths[0].rename(paths[0].with_name(".gone"))
    other.rename(paths[0])
    with pytest.raises(CheckpointNotFoundError):
        verify_recipe(written.path)


def test_a_checkpoint_without_a_recipe_is_no_average(paths: list[Path]) -> None:
    """Asking for the recipe of an ordinary checkpoint is an error that says so."""
    with pytest.raises(FormatError, match="no average"):
        read_recipe(paths[0])


def test_damage_to_the_average_itself_shows(paths: list[Path]) -> None:
    """Verifying begins with the average's own bytes."""
    written = average(paths)
    damage(written.path)
    with pytest.raises(DamagedError):
        verify_recipe(written.path)
