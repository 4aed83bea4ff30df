"""Sentence pairs from the translated messages of the programs installed on this machine.

GNU message catalogues pair an English message with its translation. Needs Babel: import this
module through `holdfast.demo.extras`.
"""

from __future__ import annotations

import os
import re
import struct
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from babel.messages.mofile import read_mo

from holdfast.demo.corpus import Corpus, Direction, Pair, one_line, split_pairs
from holdfast.errors import ConfigError

_CATALOGUE_BYTES_MAX = 64 << 20
_WORDS_MAX = 20
_MNEMONIC = re.compile(r"[_&](?=\w)")
_MARKUP = re.compile(r"[%<>{}|\\$`~^]|://|\w_\w")


def gettext_corpus(direction: Direction, roots: Sequence[Path] | None = None) -> Corpus:
    """Harvest the catalogues under `roots`, by default the usual places of this machine.

    Messages with placeholders or markup, of more than 20 words, or left in English are skipped.
    Split by the English message. Raises ConfigError if too little is found.
    """
    places = default_roots() if roots is None else list(roots)
    found: dict[Pair, None] = {}
    catalogues = 0
    for path in _catalogues(places, direction.foreign):
        before = len(found)
        for english, foreign in _messages(path):
            found[direction.pair(english, foreign)] = None
        catalogues += len(found) > before
    english_side = direction.index("en")
    train, valid, test = split_pairs(found, by=lambda pair: pair[english_side])
    if not test:
        raise ConfigError(
            f"{len(found)} messages in {direction.foreign!r} were found on this machine, too few "
            "to train on",
            where=", ".join(str(place) for place in places),
            fix="install translations (language packs), or leave --data out",
        )
    return Corpus(
        f"gettext:{direction.foreign}",
        direction,
        train,
        valid,
        test,
        origin=f"{len(found)} messages of {catalogues} catalogues on this machine, each under the "
        "licence of its program",
    )


def default_roots() -> list[Path]:
    """Where catalogues usually are on this machine."""
    shared = os.environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share"
    bases = [Path(sys.prefix) / "share", *(Path(part) for part in shared.split(":") if part)]
    return [base / "locale" for base in dict.fromkeys(bases)]


def _catalogues(roots: Sequence[Path], language: str) -> Iterator[Path]:
    for root in roots:
        for place in (language, f"{language}_{language.upper()}"):
            yield from sorted((root / place / "LC_MESSAGES").glob("*.mo"))


def _messages(path: Path) -> Iterator[tuple[str, str]]:
    """English message and translation; a catalogue that cannot be read yields nothing."""
    try:
        if path.stat().st_size > _CATALOGUE_BYTES_MAX:
            return
        with path.open("rb") as file:
            catalogue = read_mo(file)
    except (OSError, ValueError, LookupError, struct.error):
        return
    for message in catalogue:
        for english, foreign in zip(_forms(message.id), _forms(message.string), strict=False):
            pair = _clean(english, foreign)
            if pair is not None:
                yield pair


def _forms(text: object) -> tuple[str, ...]:
    """A message, or its singular and plural."""
    parts = text if isinstance(text, (list, tuple)) else (text,)
    return tuple(part for part in parts if isinstance(part, str))


def _clean(english: str, foreign: str) -> tuple[str, str] | None:
    if len(_MNEMONIC.findall(english)) == 1 and len(_MNEMONIC.findall(foreign)) == 1:
        english, foreign = _MNEMONIC.sub("", english), _MNEMONIC.sub("", foreign)
    pair = (english.strip(), foreign.strip())
    wordy = all(any(c.isalpha() for c in text) and len(text.split()) <= _WORDS_MAX for text in pair)
    if not wordy or not one_line(pair) or pair[0] == pair[1]:
        return None
    return None if any(_MARKUP.search(text) for text in pair) else pair
