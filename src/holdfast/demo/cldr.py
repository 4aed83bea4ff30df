"""The embedded corpus: German-English sentences generated from Babel's CLDR locale data.

Needs no network and stores no text: the same Babel and the same seed give the same sentences.
"""

from __future__ import annotations

import random
import re

import babel

from holdfast.demo.cldr_draw import Both, Draw
from holdfast.demo.cldr_frames import FRAMES
from holdfast.demo.cldr_names import NAMES
from holdfast.demo.cldr_quantities import QUANTITIES
from holdfast.demo.cldr_times import TIMES
from holdfast.errors import ConfigError

_SLOT = re.compile(r"\{(\w+?)(\d?)\}")
_SLOTS: dict[str, Draw] = {**TIMES, **QUANTITIES, **NAMES}
_BARREN_DRAWS_MAX = 20_000


def generate(pairs: int, *, seed: int) -> list[Both]:
    """`pairs` different German-English sentence pairs; no sentence of either side occurs twice.

    Frames are drawn evenly, so short ones run out and leave the room to richer ones. Raises
    ConfigError if the frames cannot make that many.
    """
    rng = random.Random(f"holdfast-demo-{seed}")
    german: set[str] = set()
    english: set[str] = set()
    found: list[Both] = []
    barren = 0
    while len(found) < pairs:
        both = _fill(rng.choice(FRAMES), rng)
        if both.de in german or both.en in english:
            barren += 1
            if barren == _BARREN_DRAWS_MAX:
                raise ConfigError(
                    f"The locale data yields no more than {len(found)} different sentences",
                    fix=f"ask for fewer than {pairs} pairs",
                )
            continue
        barren = 0
        german.add(both.de)
        english.add(both.en)
        found.append(both)
    return found


def source_note() -> str:
    """Where the sentences come from, for the report."""
    return f"generated from the Unicode CLDR locale data of Babel {babel.__version__}"


def _fill(frame: tuple[str, str], rng: random.Random) -> Both:
    drawn: dict[str, Both] = {}
    for match in _SLOT.finditer(frame[0]):
        drawn[match.group(0)] = _SLOTS[match.group(1)](rng).with_plain_spaces()
    german = _SLOT.sub(lambda match: drawn[match.group(0)].de, frame[0])
    english = _SLOT.sub(lambda match: drawn[match.group(0)].en, frame[1])
    return Both(_capitalize(german), _capitalize(english))


def _capitalize(text: str) -> str:
    return text[:1].upper() + text[1:]
