"""Corpora in text files: a folder with a file for each split and language, or one table."""

from __future__ import annotations

from pathlib import Path

from holdfast.demo.corpus import Corpus, Direction, Pair, one_line, split_pairs
from holdfast.errors import ConfigError

SPLITS = ("train", "valid", "test")


def read_corpus(place: Path, direction: Direction) -> Corpus:
    """Read a folder (`train.de`, `train.en`, `valid.*`, `test.*`) or one `.tsv` file.

    Raises ConfigError naming the file that is missing, not UTF-8, or has other lines than its twin.
    """
    if place.is_dir():
        return _read_folder(place, direction)
    if place.is_file():
        return _read_table(place, direction)
    raise ConfigError(
        "There is no corpus at this path",
        where=str(place),
        fix="--data takes a folder with train, valid and test files, a .tsv file, 'tatoeba' or "
        "'gettext:de'",
    )


def write_folder(corpus: Corpus, place: Path) -> None:
    """Write the splits as `read_corpus` reads them; every sentence must fit on a line."""
    place.mkdir(parents=True, exist_ok=True)
    for split in SPLITS:
        pairs: tuple[Pair, ...] = getattr(corpus, split)
        for side, language in enumerate(corpus.direction):
            lines = "".join(f"{pair[side]}\n" for pair in pairs)
            (place / f"{split}.{language}").write_text(lines, encoding="utf-8", newline="\n")


def _read_folder(place: Path, direction: Direction) -> Corpus:
    train, valid, test = (_read_split(place, split, direction) for split in SPLITS)
    return Corpus(
        place.resolve().name, direction, train, valid, test, origin=f"the text files in {place}"
    )


def _read_split(place: Path, split: str, direction: Direction) -> tuple[Pair, ...]:
    sides = [_lines(place / f"{split}.{language}") for language in direction]
    if len(sides[0]) != len(sides[1]):
        raise ConfigError(
            f"{split}.{direction.source} has {len(sides[0])} lines and {split}.{direction.target} "
            f"has {len(sides[1])}: line n of one must translate line n of the other",
            where=str(place),
        )
    pairs = (Pair(*both) for both in zip(*sides, strict=True))
    return tuple(pair for pair in pairs if all(pair))


def _read_table(path: Path, direction: Direction) -> Corpus:
    """Two columns: the source and the target, or as a first row of language codes names them."""
    rows = [line.split("\t") for line in _lines(path)]
    source, target = 0, 1
    if rows and set(direction) <= set(rows[0]):
        source, target = (rows[0].index(language) for language in direction)
        rows = rows[1:]
    width = max(source, target) + 1
    pairs = [Pair(row[source].strip(), row[target].strip()) for row in rows if len(row) >= width]
    train, valid, test = split_pairs(filter(one_line, pairs), by=lambda pair: pair.target)
    if not test:
        raise ConfigError(
            f"The table has {len(pairs)} rows with the columns wanted; too few to split",
            where=str(path),
            fix="separate the two sentences of a row by a tab",
        )
    return Corpus(path.stem, direction, train, valid, test, origin=f"the table {path}")


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise ConfigError(
            "A file of the corpus is missing",
            where=str(path),
            fix="a corpus folder holds train, valid and test, each ending in both language codes",
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError("This file is not UTF-8 text", where=str(path)) from error
    lines = text.split("\n")
    if lines and not lines[-1]:
        lines.pop()
    return [line.strip() for line in lines]
