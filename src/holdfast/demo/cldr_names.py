"""Names of places, languages, scripts, people and things for the embedded corpus."""

from __future__ import annotations

import re
from collections.abc import Sequence
from random import Random

from babel.core import get_global

from holdfast.demo.cldr_choices import NO_BARE_PLACE, NO_COUNTRY, NO_LANGUAGE, SUBJECTS, THINGS
from holdfast.demo.cldr_draw import ENGLISH, GERMAN, Both, Draw, listed

_WORD = re.compile(r"[^\W\d_]+")
_TERRITORY = re.compile(r"[A-Z]{2}")
_LANGUAGE = re.compile(r"[a-z]{2,3}")
_SCRIPT = re.compile(r"[A-Y][a-z]{3}")
_CONTINENTS = ("Africa", "America", "Asia", "Australia", "Europe")


def _names(table: str, code: re.Pattern[str], excluded: frozenset[str]) -> list[Both]:
    """Entries of a locale table present in both languages, in the order of their codes."""
    german, english = dict(getattr(GERMAN, table)), dict(getattr(ENGLISH, table))
    keys = sorted((set(german) & set(english)) - excluded)
    return [Both(german[key], english[key]) for key in keys if code.fullmatch(key)]


def _plain_languages() -> list[Both]:
    every = _names("languages", _LANGUAGE, NO_LANGUAGE)
    return [both for both in every if "(" not in "".join(both) and "sprache" not in both.de]


def _bare_countries() -> list[Both]:
    """Countries whose German name follows "in", "aus" and "nach" without an article."""
    every = _names("territories", _TERRITORY, NO_COUNTRY | NO_BARE_PLACE)
    return [both for both in every if _WORD.fullmatch(both.de) and "(" not in both.en]


def _exemplar_cities() -> list[Both]:
    """Cities that time zones are named after; islands and countries among them left out."""
    german, english = GERMAN.time_zones, ENGLISH.time_zones
    places = {name for both in _TERRITORIES for name in both}
    found: dict[str, Both] = {}
    for zone in sorted(get_global("zone_territories")):
        continent, _, city = zone.partition("/")
        if continent not in _CONTINENTS or "/" in city:
            continue
        plain = city.replace("_", " ")
        both = Both(
            german.get(zone, {}).get("city", plain), english.get(zone, {}).get("city", plain)
        )
        if not places & set(both) and not re.search(r"\bSt\b|,|\d", " ".join(both)):
            found.setdefault(both.en, both)
    return list(found.values())


_TERRITORIES = _names("territories", _TERRITORY, NO_COUNTRY)
_COUNTRIES = _bare_countries()
_LANGUAGES = _plain_languages()
_SCRIPTS = _names("scripts", _SCRIPT, frozenset())
_CITIES = _exemplar_cities()


def _one(items: Sequence[Both]) -> Draw:
    return lambda rng: rng.choice(items)


def _several(items: Sequence[Both], style: str = "standard") -> Draw:
    def draw(rng: Random) -> Both:
        return listed(rng.sample(items, rng.randint(2, 4)), style)

    return draw


NAMES: dict[str, Draw] = {
    "territory": _one(_TERRITORIES),
    "country": _one(_COUNTRIES),
    "city": _one(_CITIES),
    "language": _one(_LANGUAGES),
    "script": _one(_SCRIPTS),
    "subject": _one([Both(*pair) for pair in SUBJECTS]),
    "thing": _one([Both(*pair) for pair in THINGS]),
    "cities": _several(_CITIES),
    "countries": _several(_COUNTRIES),
    "territories": _several(_TERRITORIES),
    "languages": _several(_LANGUAGES),
    "languages_or": _several(_LANGUAGES, "or"),
}
