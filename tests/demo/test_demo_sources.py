"""Corpora from folders, tables, the Tatoeba export and message catalogues."""

from __future__ import annotations

import bz2
import sys
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo

from holdfast.demo.corpus import Corpus, Direction, Pair, split_pairs
from holdfast.demo.corpus_files import read_corpus, write_folder
from holdfast.demo.corpus_gettext import gettext_corpus
from holdfast.demo.corpus_tatoeba import tatoeba_corpus
from holdfast.demo.download import fetch, user_cache
from holdfast.demo.extras import demo_module
from holdfast.demo.sources import open_corpus
from holdfast.errors import ConfigError

DE_EN = Direction.parse("de-en")
WORDS = [f"{a}{b}" for a in "bdfgklmn" for b in "aeiou"]
PAIRS = tuple(Pair(f"Satz {word}.", f"Sentence {word}.") for word in WORDS)


def small_corpus() -> Corpus:
    """Forty pairs, split."""
    return Corpus("small", DE_EN, *split_pairs(PAIRS, by=lambda pair: pair.target))


# Splits and directions


def test_no_key_is_in_two_splits_and_only_training_has_several_pairs_of_one() -> None:
    """Sentences with several translations stay together."""
    doubled = [*PAIRS, *(Pair(pair.source + "!", pair.target) for pair in PAIRS)]
    train, valid, test = split_pairs(doubled, by=lambda pair: pair.target)
    keys = [{pair.target for pair in split} for split in (train, valid, test)]
    assert not keys[0] & keys[1]
    assert not keys[0] & keys[2]
    assert not keys[1] & keys[2]
    assert (len(train), len(valid), len(test)) == (72, 2, 2)


def test_the_split_does_not_depend_on_the_order_of_pairs() -> None:
    """A sentence is held out for what it is."""
    splits = split_pairs(PAIRS, by=lambda pair: pair.target)
    assert [set(s) for s in splits] == [
        set(s) for s in split_pairs(reversed(PAIRS), by=lambda pair: pair.target)
    ]


@pytest.mark.parametrize("text", ["de", "de-de", "deutsch-english", "-en", "d1-en", ""])
def test_a_direction_is_two_different_codes(text: str) -> None:
    """Anything else is refused with an example of what is right."""
    with pytest.raises(ConfigError, match="de-en"):
        Direction.parse(text)


def test_the_overlap_with_training_is_measured_and_said() -> None:
    """A repeated source, with another translation, becomes a note that goes with the score."""
    corpus = Corpus(
        "x",
        DE_EN,
        (Pair("a", "b"), Pair("c", "d")),
        (Pair("e", "f"),),
        (Pair("a", "z"), Pair("y", "x")),
    ).checked()
    assert corpus.overlap == (0.5, 0.0)
    assert "50% of the de test sentences" in corpus.notes[0]


def test_a_leak_is_called_one() -> None:
    """Whole pairs in both train and test make the score worthless, and that is said."""
    corpus = Corpus("x", DE_EN, PAIRS[:2], PAIRS[2:3], PAIRS[:1]).checked()
    assert "1 test pairs are also training pairs" in corpus.notes[0]


# Folders and tables


def test_a_folder_reads_as_it_was_written(tmp_path: Path) -> None:
    """Six files, one line a sentence."""
    corpus = small_corpus()
    write_folder(corpus, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"{split}.{language}" for split in ("test", "train", "valid") for language in ("de", "en")
    ]
    read = read_corpus(tmp_path, DE_EN)
    assert (read.train, read.valid, read.test) == (corpus.train, corpus.valid, corpus.test)


def test_a_folder_serves_both_directions(tmp_path: Path) -> None:
    """The file endings name the sides."""
    write_folder(small_corpus(), tmp_path)
    read = read_corpus(tmp_path, Direction.parse("en-de"))
    assert read.test == tuple(Pair(*reversed(pair)) for pair in small_corpus().test)


def test_a_missing_file_and_unequal_files_are_named(tmp_path: Path) -> None:
    """The error says which file and what the rule is."""
    write_folder(small_corpus(), tmp_path)
    (tmp_path / "valid.en").write_text("one line too few\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"valid\.de has 2 lines and valid\.en has 1"):
        read_corpus(tmp_path, DE_EN)
    (tmp_path / "train.de").unlink()
    with pytest.raises(ConfigError, match=r"train\.de"):
        read_corpus(tmp_path, DE_EN)


def test_text_in_another_encoding_is_named(tmp_path: Path) -> None:
    """Latin-1 is not guessed."""
    write_folder(small_corpus(), tmp_path)
    (tmp_path / "test.de").write_bytes("Grüße\n".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"UTF-8.*test\.de"):
        read_corpus(tmp_path, DE_EN)


def test_a_table_is_split_here(tmp_path: Path) -> None:
    """Source, tab, target; further columns and short rows are ignored."""
    path = tmp_path / "pairs.tsv"
    rows = [f"{pair.source}\t{pair.target}\tby somebody" for pair in PAIRS]
    path.write_text("\r\n".join([*rows, "no tab here"]), encoding="utf-8-sig")
    read = read_corpus(path, DE_EN)
    assert {*read.train, *read.valid, *read.test} == set(PAIRS)
    assert read.test


def test_a_first_row_of_codes_names_the_columns(tmp_path: Path) -> None:
    """So a table serves in any column order."""
    path = tmp_path / "pairs.tsv"
    rows = ["id\ten\tde", *(f"1\t{pair.target}\t{pair.source}" for pair in PAIRS)]
    path.write_text("\n".join(rows), encoding="utf-8")
    read = read_corpus(path, DE_EN)
    assert {*read.train, *read.valid, *read.test} == set(PAIRS)


def test_a_path_to_nothing_says_what_data_may_be() -> None:
    """The error lists the choices."""
    with pytest.raises(ConfigError, match="tatoeba"):
        open_corpus("no/such/place", DE_EN, seed=1)


def test_an_empty_split_is_refused(tmp_path: Path) -> None:
    """Training without development sentences could not choose a checkpoint."""
    write_folder(Corpus("x", DE_EN, PAIRS[:9], (), PAIRS[9:10]), tmp_path)
    with pytest.raises(ConfigError, match="no valid sentences"):
        open_corpus(str(tmp_path), DE_EN, seed=1)


# Tatoeba


@pytest.fixture
def export(tmp_path: Path) -> str:
    """A small export in the layout of the official one, as a file:// URL."""
    place = tmp_path / "export"
    german = "".join(f"{n}\tdeu\t{pair.source}\n" for n, pair in enumerate(PAIRS))
    english = "".join(f"{n + 100}\teng\t{pair.target}\n" for n, pair in enumerate(PAIRS))
    links = "".join(f"{n}\t{n + 100}\n" for n in range(len(PAIRS)))
    for folder, name, text in (
        ("deu", "deu_sentences", german + "77\tdeu\tOhne Übersetzung\n"),
        ("eng", "eng_sentences", english),
        ("deu", "deu-eng_links", links + "5\t999999\n"),
    ):
        (place / folder).mkdir(parents=True, exist_ok=True)
        (place / folder / f"{name}.tsv.bz2").write_bytes(bz2.compress(text.encode()))
    return place.as_uri()


def test_tatoeba_pairs_are_the_linked_sentences(export: str, tmp_path: Path) -> None:
    """Joined by their numbers; a link to a sentence that is gone is left out."""
    corpus = tatoeba_corpus(DE_EN, base_url=export, cache=tmp_path / "cache")
    assert {*corpus.train, *corpus.valid, *corpus.test} == set(PAIRS)
    assert "CC BY 2.0 FR" in corpus.origin


def test_the_shortest_pairs_are_taken(export: str, tmp_path: Path) -> None:
    """A short budget learns more from short sentences."""
    corpus = tatoeba_corpus(DE_EN, base_url=export, cache=tmp_path / "cache", pairs_max=25)
    assert len({*corpus.train, *corpus.valid, *corpus.test}) == 25


def test_a_download_is_made_once(export: str, tmp_path: Path) -> None:
    """The second time the cache answers, with the source gone."""
    cache = tmp_path / "cache"
    first = tatoeba_corpus(DE_EN, base_url=export, cache=cache)
    assert tatoeba_corpus(DE_EN, base_url="file:///nowhere", cache=cache) == first


def test_a_failed_download_leaves_nothing_behind(tmp_path: Path) -> None:
    """Neither a part nor an empty file that the next run would believe."""
    with pytest.raises(ConfigError, match="download failed"):
        fetch((tmp_path / "missing").as_uri(), tmp_path / "cache" / "file")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_damaged_download_is_named(export: str, tmp_path: Path) -> None:
    """The error says which file to delete."""
    cache = tmp_path / "cache"
    tatoeba_corpus(DE_EN, base_url=export, cache=cache)
    damaged = cache / "tatoeba" / "deu_sentences.tsv.bz2"
    damaged.write_bytes(damaged.read_bytes()[:40])
    with pytest.raises(ConfigError, match="deu_sentences"):
        tatoeba_corpus(DE_EN, base_url=export, cache=cache)


def test_the_cache_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where the platform says caches go."""
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert user_cache() == tmp_path / "holdfast"


def test_a_language_tatoeba_is_not_asked_for_is_refused() -> None:
    """The error lists those it knows."""
    with pytest.raises(ConfigError, match="one of cs, da, de"):
        tatoeba_corpus(Direction.parse("xx-en"))


# Message catalogues


def write_catalogue(
    root: Path, messages: dict[str | tuple[str, str], str | tuple[str, str]]
) -> None:
    """A compiled German catalogue under `root`."""
    catalogue = Catalog(locale="de")
    for english, german in messages.items():
        catalogue.add(english, german)
    place = root / "de" / "LC_MESSAGES"
    place.mkdir(parents=True, exist_ok=True)
    with (place / f"p{len(list(place.iterdir()))}.mo").open("wb") as file:
        write_mo(file, catalogue)


def test_messages_of_all_catalogues_are_harvested_and_cleaned(tmp_path: Path) -> None:
    """Keyboard marks go; placeholders, markup and untranslated messages are left out."""
    write_catalogue(tmp_path, {pair.target: pair.source for pair in PAIRS})
    write_catalogue(
        tmp_path,
        {
            "_Open file": "Datei ö_ffnen",
            "%d files": "%d Dateien",
            "<b>Bold</b>": "<b>Fett</b>",
            "Name": "Name",
            "two\nlines": "zwei\nZeilen",
            ("One day", "Many days"): ("Ein Tag", "Viele Tage"),
        },
    )
    corpus = gettext_corpus(DE_EN, [tmp_path])
    found = {*corpus.train, *corpus.valid, *corpus.test}
    assert found - set(PAIRS) == {
        Pair("Datei öffnen", "Open file"),
        Pair("Ein Tag", "One day"),
        Pair("Viele Tage", "Many days"),
    }
    assert "2 catalogues" in corpus.origin


def test_a_file_that_is_no_catalogue_is_passed_over(tmp_path: Path) -> None:
    """One bad file on a machine does not stop the harvest."""
    write_catalogue(tmp_path, {pair.target: pair.source for pair in PAIRS})
    (tmp_path / "de" / "LC_MESSAGES" / "bad.mo").write_bytes(b"not a catalogue at all")
    (tmp_path / "de" / "LC_MESSAGES" / "short.mo").write_bytes(b"\xde\x12\x04\x95\0\0")
    assert gettext_corpus(DE_EN, [tmp_path]).train


def test_a_machine_without_translations_is_told_so(tmp_path: Path) -> None:
    """The error says where it looked and what to do."""
    with pytest.raises(ConfigError, match="too few"):
        gettext_corpus(DE_EN, [tmp_path])


def test_a_catalogue_language_must_be_of_the_direction() -> None:
    """gettext:fr cannot feed a German model."""
    with pytest.raises(ConfigError, match="--direction fr-en"):
        open_corpus("gettext:fr", DE_EN, seed=1)


def test_a_missing_library_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is the command to type; other missing modules are errors of ours and stay so."""
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    with pytest.raises(ConfigError, match=r"pip install 'holdfast\[demo\]'"):
        demo_module("sacrebleu")
    with pytest.raises(ModuleNotFoundError):
        demo_module("holdfast.demo.no_such_module")


# The development corpus


def test_the_development_corpus_reads_and_its_repeated_sources_are_said() -> None:
    """Its splits share no English sentence; a fifth of the German test side is also in training."""
    place = Path(__file__).resolve().parents[3] / "shared" / "data" / "tatoeba-en-de"
    if not place.is_dir():
        pytest.skip("the development corpus is not beside this checkout")
    corpus = open_corpus(str(place), DE_EN, seed=1)
    assert (len(corpus.train), len(corpus.valid), len(corpus.test)) == (47_338, 1000, 1000)
    assert corpus.overlap.target == 0.0
    assert 0.15 < corpus.overlap.source < 0.25
    assert any("flatters the score" in note for note in corpus.notes)
