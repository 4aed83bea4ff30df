"""The Tatoeba corpus, from its official weekly export.

https://tatoeba.org/downloads: for each language a table of sentences (id, language, text), for each
pair of languages a table of links (id, id), tab-separated and bzip2-compressed. The text is
CC BY 2.0 FR; it is kept in the user's cache and never becomes part of holdfast.
"""

from __future__ import annotations

import bz2
from collections.abc import Iterator
from pathlib import Path

from holdfast.demo.corpus import Corpus, Direction, one_line, split_pairs
from holdfast.demo.download import fetch, user_cache
from holdfast.errors import ConfigError

BASE_URL = "https://downloads.tatoeba.org/exports/per_language"
PAIRS_MAX = 50_000
_LINE_BYTES_MAX = 100_000
_ISO_639_3 = {
    "cs": "ces",
    "da": "dan",
    "de": "deu",
    "en": "eng",
    "eo": "epo",
    "es": "spa",
    "fi": "fin",
    "fr": "fra",
    "hu": "hun",
    "it": "ita",
    "nl": "nld",
    "pl": "pol",
    "pt": "por",
    "ru": "rus",
    "sv": "swe",
    "tr": "tur",
    "uk": "ukr",
}


def tatoeba_corpus(
    direction: Direction,
    *,
    base_url: str = BASE_URL,
    cache: Path | None = None,
    pairs_max: int = PAIRS_MAX,
) -> Corpus:
    """Download what is not cached and take the `pairs_max` shortest pairs, split by English.

    Raises ConfigError if a language is not offered, the download fails or a file is damaged.
    """
    english, foreign = "eng", _code(direction.foreign)
    place = (user_cache() if cache is None else cache) / "tatoeba"
    files = {
        name: fetch(f"{base_url}/{folder}/{name}", place / name)
        for folder, name in (
            (foreign, f"{foreign}-{english}_links.tsv.bz2"),
            (foreign, f"{foreign}_sentences.tsv.bz2"),
            (english, f"{english}_sentences.tsv.bz2"),
        )
    }
    links_file, foreign_file, english_file = files.values()
    links = [(int(row[0]), int(row[1])) for row in _rows(links_file, 2) if row[0].isdigit()]
    foreign_texts = _texts(foreign_file, {link[0] for link in links})
    english_texts = _texts(english_file, {link[1] for link in links})
    pairs = {
        direction.pair(english_texts[en], foreign_texts[other])
        for other, en in links
        if other in foreign_texts and en in english_texts
    }
    shortest = sorted(pairs, key=lambda pair: (len(pair.source) + len(pair.target), pair))
    side = direction.index("en")
    train, valid, test = split_pairs(shortest[:pairs_max], by=lambda pair: pair[side])
    return Corpus(
        "tatoeba",
        direction,
        train,
        valid,
        test,
        origin=f"Tatoeba (tatoeba.org, CC BY 2.0 FR), the {len(shortest[:pairs_max])} shortest of "
        f"{len(pairs)} pairs",
    )


def _code(language: str) -> str:
    try:
        return _ISO_639_3[language]
    except KeyError:
        raise ConfigError(
            f"The demo does not know Tatoeba's name of the language {language!r}",
            fix=f"use one of {', '.join(sorted(_ISO_639_3))}, or give a folder with --data",
        ) from None


def _texts(path: Path, wanted: set[int]) -> dict[int, str]:
    """Text by sentence number, of the sentences wanted."""
    return {
        int(row[0]): row[2]
        for row in _rows(path, 3)
        if row[0].isdigit() and int(row[0]) in wanted and one_line(row[2:3])
    }


def _rows(path: Path, columns: int) -> Iterator[list[str]]:
    try:
        with bz2.open(path, "rb") as file:
            while line := file.readline(_LINE_BYTES_MAX):
                row = line.decode("utf-8").rstrip("\n").split("\t")
                if len(row) >= columns:
                    yield row
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"The downloaded file is damaged: {error}",
            where=str(path),
            fix="delete it, and it is fetched again",
        ) from error
