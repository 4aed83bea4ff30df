"""One value, worded in German and in English by Babel's locale data."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from babel import Locale, lists

GERMAN = Locale("de")
ENGLISH = Locale("en")
_SPACES = re.compile(r"\s+")


class Both(NamedTuple):
    """One meaning in both languages."""

    de: str
    en: str

    def with_plain_spaces(self) -> Both:
        """CLDR's narrow and no-break spaces as the ordinary one."""
        return Both(*(_SPACES.sub(" ", text).strip() for text in self))


Draw = Callable[[random.Random], Both]


def worded(word: Callable[[Locale], str]) -> Both:
    """The same value in the wording of each locale."""
    return Both(word(GERMAN), word(ENGLISH))


def listed(items: Sequence[Both], style: str = "standard") -> Both:
    """Items joined by commas and a conjunction; style: "standard" for "and", "or" for "or"."""
    return Both(
        lists.format_list([both.de for both in items], style, locale=GERMAN),  # type: ignore[arg-type]
        lists.format_list([both.en for both in items], style, locale=ENGLISH),  # type: ignore[arg-type]
    )
