"""Sequence models exported as a start and a step graph decode as the model does."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from seq2seq_models import (
    EXPORTED,
    LONGEST,
    SOURCE_SIZE,
    Exported,
    export_both,
    some_sources,
)

from holdfast.decoding.pieces import EOS, Vocabulary
from holdfast.errors import ConfigError, FormatError, InputError, LoadError
from holdfast.export.seq2seq import (
    Recipe,
    SequenceModel,
    TextModel,
    load_onnx,
    write_vocabularies,
)
from holdfast.export.seq2seq.parity import DecodingParity

pytestmark = pytest.mark.xdist_group("seq2seq")
SOURCES = some_sources(200)
NAMES = ("cached", "whole")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exported]:
    """Both kinds of decoding in both formats."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield export_both(tmp_path_factory.mktemp("seq2seq"))
    torch.set_num_threads(before)


def tokens(model: SequenceModel, width: int = 1) -> list[list[int]]:
    """Of all sources."""
    return [found.tokens for found in model.decode(SOURCES, width=width)]


def test_every_graph_passes_the_gate_on_all_shapes(exported: Exported) -> None:
    """Start and step, with and without cached keys, no past at all included."""
    assert len(exported.reports) == 6
    for report in exported.reports:
        report.require()
    sizes = [case.sizes for report in exported.reports for case in report.cases]
    assert {"rows": 1, "source": 1, "past": 0} in sizes


@pytest.mark.parametrize(("name", "kind"), [(n, k) for n, ks in EXPORTED.items() for k in ks])
@pytest.mark.parametrize("width", [1, 3])
def test_exported_decoding_is_token_identical(
    exported: Exported, name: str, kind: str, width: int
) -> None:
    """200 sources of all lengths, greedy and with a beam, from the files."""
    expected = tokens(exported.eager(name), width)
    assert tokens(exported.exported(name, kind), width) == expected
    assert len({tuple(ids) for ids in expected}) > 100


@pytest.mark.parametrize("width", [1, 3])
def test_an_ensemble_of_exports_is_that_of_the_models(exported: Exported, width: int) -> None:
    """Members with and without cached keys, on different runtimes, in one runner."""
    found = SequenceModel.ensemble(
        [exported.exported("cached", "onnx"), exported.exported("whole", "program")],
        weights=[2, 1],
    )
    models = SequenceModel.ensemble([exported.eager(name) for name in NAMES], weights=[2, 1])
    together = tokens(found, width)
    assert together == tokens(models, width)
    assert together != tokens(exported.eager("cached"), width)


def test_members_with_other_ranges_are_refused(exported: Exported) -> None:
    """An ensemble needs one meaning of ids and one rule of lengths."""
    model = exported.eager("cached")
    other = SequenceModel(model.steps, replace(model.recipe, pad=7))
    with pytest.raises(ConfigError, match="marks"):
        SequenceModel.ensemble([model, other])


def test_the_gates_check_of_decoding_passes(exported: Exported) -> None:
    """It says what it compared."""
    for result in exported.parity.values():
        assert result.passed, result.text
        assert result.text == (
            "greedy: 40 of 40 sequences identical; beam of 3: 40 of 40 sequences identical"
        )


def test_the_gates_check_of_decoding_finds_another_model(exported: Exported) -> None:
    """One log-probability moved by a hair more than rounding turns some token."""
    graphs = exported.graphs["cached"]
    step = exported.eager_runners[graphs.step.name]

    def perturbed(*inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        log_probs, *cache = step(*inputs)
        return (log_probs + 0.2 * torch.sin(torch.arange(31.0)), *cache)

    artifact = {**exported.eager_runners, graphs.step.name: perturbed}
    strict = DecodingParity(graphs, SOURCES[:20])(exported.eager_runners, artifact)
    assert not strict.passed
    assert 0 < strict.data["greedy different"] <= 20  # type: ignore[operator]
    lenient = DecodingParity(
        graphs, SOURCES[:20], score=lambda ids: sum(map(len, ids)) / 20, drop_max=20.0
    )(exported.eager_runners, artifact)
    assert lenient.passed
    assert "score" in lenient.text


def test_the_gates_check_of_decoding_survives_nan(exported: Exported) -> None:
    """An artifact that cannot decode fails, with the reason."""
    graphs = exported.graphs["whole"]
    step = exported.eager_runners[graphs.step.name]
    artifact = {
        **exported.eager_runners,
        graphs.step.name: lambda *inputs: (step(*inputs)[0] * torch.nan, *step(*inputs)[1:]),
    }
    result = DecodingParity(graphs, SOURCES[:5])(exported.eager_runners, artifact)
    assert not result.passed
    assert "not numbers" in result.text


@pytest.mark.parametrize(
    ("options", "message"),
    [({"sources": []}, "needs sources"), ({"drop_max": 1.0}, "needs a score")],
)
def test_a_check_that_compares_nothing_is_refused(
    exported: Exported, options: dict[str, object], message: str
) -> None:
    """No sources, or a fall of nothing."""
    given = {"sources": SOURCES[:2], **options}
    with pytest.raises(ConfigError, match=message):
        DecodingParity(exported.graphs["cached"], **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ([5, SOURCE_SIZE], "41"),
        ([-1, 5], "-1"),
        ([5] * (LONGEST + 1), "25"),
        ([], "padding"),
    ],
)
def test_sources_it_was_not_exported_for_are_refused(
    exported: Exported, source: list[int], message: str
) -> None:
    """A clear error, not garbage: ids, lengths and emptiness."""
    with pytest.raises(InputError, match=message):
        exported.exported("cached", "onnx").decode([[5, EOS], source])


@pytest.mark.parametrize("width", [0, 601])
def test_a_beam_wider_than_the_graphs_is_refused(exported: Exported, width: int) -> None:
    """The error says how many rows there are."""
    with pytest.raises(InputError, match="600"):
        exported.eager("cached").decode([[5, EOS]], width=width)


def test_a_length_given_overrules_the_rule(exported: Exported) -> None:
    """Within the longest that was exported."""
    model = exported.eager("cached")
    assert max(len(h.tokens) for h in model.decode(SOURCES[:20], length_max=3)) <= 3
    assert model.decode([]) == []


def test_serving_needs_neither_torch_nor_the_demo(exported: Exported) -> None:
    """A fresh process translates from the files alone, to the tokens of eager mode."""
    for file, size in (("source", SOURCE_SIZE), ("target", 31)):
        words = [*Vocabulary.build([]).pieces, *(chr(945 + i) for i in range(size - 4))]
        Vocabulary(words).write(exported.folder / f"{file}.vocabulary.json")
    code = f"""
import json, sys
from holdfast.export.seq2seq import TextModel
model = TextModel.load_onnx({str(exported.folder)!r}, "cached")
found = model.translate(["αβγ", "δ"], width=2)
seen = [name for name in ("torch", "holdfast.demo") if name in sys.modules]
print(json.dumps([[one.source, one.hypothesis.tokens, one.text] for one in found] + seen))
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    found = json.loads(done.stdout)
    expected = exported.eager("cached").decode([source for source, _, _ in found], width=2)
    assert [ids for _, ids, _ in found] == [hypothesis.tokens for hypothesis in expected]
    assert all(chr(945 + ids[0] - 4) in text for _, ids, text in found)


def test_vocabularies_come_back_from_their_files(exported: Exported) -> None:
    """And other files are refused."""
    words = Vocabulary.build(["ein Haus"])
    write_vocabularies(exported.folder, words, words)
    assert TextModel.load_onnx(exported.folder, "cached").target == words
    (exported.folder / "source.vocabulary.json").write_text('{"pieces": ["a"]}')
    with pytest.raises(FormatError, match="holdfast-vocabulary/1"):
        TextModel.load_onnx(exported.folder, "cached")


def test_a_recipe_comes_back_from_its_file(exported: Exported) -> None:
    """Every fact a runner needs; another schema is refused."""
    folder, recipe = exported.folder, exported.graphs["cached"].recipe
    assert Recipe.read(folder, "cached") == recipe
    text = (folder / "cached.decoding.json").read_text()
    (folder / "other.decoding.json").write_text(text.replace("decoding/1", "decoding/9"))
    with pytest.raises(FormatError, match="decoding/9"):
        Recipe.read(folder, "other")
    (folder / "other.decoding.json").write_text(text.replace('"rows"', '"lines"'))
    with pytest.raises(FormatError, match="not in tuple"):
        Recipe.read(folder, "other")


def test_a_damaged_graph_is_named(exported: Exported) -> None:
    """Loading says which file ONNX Runtime could not read."""
    recipe = exported.graphs["cached"].recipe
    damaged = exported.folder / "damaged"
    damaged.mkdir()
    recipe.write(damaged, "cached")
    whole = (exported.folder / "cached-start.onnx").read_bytes()
    (damaged / "cached-start.onnx").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(LoadError, match=r"cached-start\.onnx"):
        load_onnx(damaged, "cached")
