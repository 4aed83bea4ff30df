"""Sequence models exported as a start and a step graph decode as the model does."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

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


def tokens(model: SequenceModel, width: int = 1, *, count: int = 200) -> list[list[int]]:
    """Of so many sources."""
    return [found.tokens for found in model.decode(SOURCES[:count], width=width)]


def test_every_graph_passes_the_gate_on_all_shapes(exported: Exported) -> None:
    """Start and step, with and without cached keys, no past at all included."""
    reports = [report for one in exported.releases.values() for report in one.reports]
    assert len(reports) == 6
    assert all(report.passed for report in reports)
    sizes = [case.sizes for report in reports for case in report.cases]
    assert {"rows": 1, "source": 1, "past": 0} in sizes


@pytest.mark.parametrize(("name", "kind"), [(n, k) for n, ks in EXPORTED.items() for k in ks])
@pytest.mark.parametrize("width", [1, 3])
def test_exported_decoding_is_token_identical(
    exported: Exported, name: str, kind: str, width: int
) -> None:
    """200 sources of all lengths, greedy and with a beam; 50 without cached keys."""
    count = 200 if name == "cached" else 50
    expected = tokens(exported.eager(name), width, count=count)
    assert tokens(exported.exported(name, kind), width, count=count) == expected
    assert len({tuple(ids) for ids in expected}) > count / 2


@pytest.mark.parametrize("width", [1, 3])
def test_an_ensemble_of_exports_is_that_of_the_models(exported: Exported, width: int) -> None:
    """Members with and without cached keys, on different runtimes, in one runner."""
    found = SequenceModel.ensemble(
        [exported.exported("cached", "onnx"), exported.exported("whole", "program")],
        weights=[2, 1],
    )
    models = SequenceModel.ensemble([exported.eager(name) for name in NAMES], weights=[2, 1])
    together = tokens(found, width, count=50)
    assert together == tokens(models, width, count=50)
    assert together != tokens(exported.eager("cached"), width, count=50)


def test_members_with_other_ranges_are_refused(exported: Exported) -> None:
    """An ensemble needs one meaning of ids and one rule of lengths."""
    model = exported.eager("cached")
    other = SequenceModel(model.steps, replace(model.recipe, pad=7))
    with pytest.raises(ConfigError, match="marks"):
        SequenceModel.ensemble([model, other])


def test_the_gate_compared_whole_sequences(exported: Exported) -> None:
    """For every format, and it says what it compared."""
    for one in exported.releases.values():
        for report in one.reports:
            assert [check.text for check in report.checks] == [
                "greedy: 40 of 40 sequences identical; beam of 3: 40 of 40 sequences identical"
            ]


def test_the_card_tells_how_fast_each_format_decodes(exported: Exported) -> None:
    """Shortest, median and longest sources, beside eager mode; progress was shown."""
    table = json.loads((exported.folder("cached") / "card.json").read_text())["latency"]
    assert [row["run_by"] for row in table["data"]] == ["eager", "onnx", "program"] * 3
    assert [row["sizes"]["batch"] for row in table["data"]] == [2] * 9
    assert len({row["sizes"]["source"] for row in table["data"]}) == 3
    assert exported.progress[0].startswith("latency 1 of 3: decoding, batch 2")
    assert "| decoding |" in (exported.folder("cached") / "README.md").read_text()


def test_the_gates_check_of_decoding_finds_another_model(exported: Exported) -> None:
    """One log-probability moved by a hair more than rounding turns some token."""
    graphs = exported.graphs["cached"]
    runners = exported.runners("cached")
    step = runners[graphs.step.name]

    def perturbed(*inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        log_probs, *cache = step(*inputs)
        return (log_probs + 0.2 * torch.sin(torch.arange(31.0)), *cache)

    artifact = {**runners, graphs.step.name: perturbed}
    strict = DecodingParity(graphs, SOURCES[:20])(runners, artifact)
    assert not strict.passed
    assert 0 < strict.data["greedy different"] <= 20  # type: ignore[operator]
    lenient = DecodingParity(
        graphs, SOURCES[:20], score=lambda ids: sum(map(len, ids)) / 20, drop_max=20.0
    )(runners, artifact)
    assert lenient.passed
    assert "score" in lenient.text


def test_the_gates_check_of_decoding_survives_nan(exported: Exported) -> None:
    """An artifact that cannot decode fails, with the reason."""
    graphs = exported.graphs["whole"]
    runners = exported.runners("whole")
    step = runners[graphs.step.name]
    artifact = {
        **runners,
        graphs.step.name: lambda *inputs: (step(*inputs)[0] * torch.nan, *step(*inputs)[1:]),
    }
    result = DecodingParity(graphs, SOURCES[:5])(runners, artifact)
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
    code = f"""
import json, sys
from holdfast.export.seq2seq import TextModel
model = TextModel.load_onnx({str(exported.folder("cached"))!r}, "cached")
found = model.translate(["αβγ", "δ"], width=2)
seen = [name for name in ("torch", "holdfast.demo") if name in sys.modules]
print(json.dumps([[one.source, one.hypothesis.tokens, one.text] for one in found] + seen))
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    found = json.loads(done.stdout)
    expected = exported.eager("cached").decode([source for source, _, _ in found], width=2)
    assert [ids for _, ids, _ in found] == [hypothesis.tokens for hypothesis in expected]
    assert all(chr(945 + ids[0] - 4) in text for _, ids, text in found)


def test_vocabularies_come_back_from_their_files(tmp_path: Path) -> None:
    """And other files are refused."""
    source, target = Vocabulary.build(["ein Haus"]), Vocabulary.build(["a house"])
    paths = write_vocabularies(tmp_path, source, target)
    assert [Vocabulary.read(path) for path in paths] == [source, target]
    paths[0].write_text('{"pieces": ["a"]}')
    with pytest.raises(FormatError, match="holdfast-vocabulary/1"):
        Vocabulary.read(paths[0])


def test_a_recipe_comes_back_from_its_file(exported: Exported, tmp_path: Path) -> None:
    """Every fact a runner needs; another schema is refused."""
    recipe = exported.graphs["cached"].recipe
    assert Recipe.read(exported.folder("cached"), "cached") == recipe
    text = recipe.to_bytes().decode()
    (tmp_path / "other.decoding.json").write_text(text.replace("decoding/1", "decoding/9"))
    with pytest.raises(FormatError, match="decoding/9"):
        Recipe.read(tmp_path, "other")
    (tmp_path / "other.decoding.json").write_text(text.replace('"rows"', '"lines"'))
    with pytest.raises(FormatError, match="not in tuple"):
        Recipe.read(tmp_path, "other")


def test_a_damaged_graph_is_named(exported: Exported, tmp_path: Path) -> None:
    """Loading says which file ONNX Runtime could not read."""
    exported.graphs["cached"].recipe.write(tmp_path, "cached")
    whole = (exported.folder("cached") / "cached-start.onnx").read_bytes()
    (tmp_path / "cached-start.onnx").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(LoadError, match=r"cached-start\.onnx"):
        load_onnx(tmp_path, "cached")
