"""Dates, times and spans of time for the sentences of the embedded corpus."""

from __future__ import annotations

import datetime as dt
from random import Random
from typing import Literal

from babel import dates

from holdfast.demo.cldr_draw import ENGLISH, GERMAN, Both, Draw, listed, worded

_Unit = Literal["minute", "hour", "day", "week", "month", "year"]

_FIRST_DAY = dt.date(1950, 1, 1).toordinal()
_DAYS = 30_000
_SECONDS: dict[_Unit, float] = {
    "minute": 60,
    "hour": 3600,
    "day": 86_400,
    "week": 7 * 86_400,
    "month": 30.4375 * 86_400,
    "year": 365.25 * 86_400,
}
_MOST: dict[_Unit, int] = {"minute": 55, "hour": 22, "day": 6, "week": 3, "month": 11, "year": 60}


def _date(rng: Random) -> Both:
    day = _day(rng)
    return worded(lambda at: dates.format_date(day, "long", locale=at))


def _full_date(rng: Random) -> Both:
    day = _day(rng)
    return worded(lambda at: dates.format_date(day, "full", locale=at))


def _day_month(rng: Random) -> Both:
    day = _day(rng)
    return worded(lambda at: dates.format_skeleton("MMMMd", day, locale=at))


def _interval(rng: Random) -> Both:
    first = _day(rng)
    last = first + dt.timedelta(days=rng.randint(1, 90))
    return worded(lambda at: dates.format_interval(first, last, "yMMMd", locale=at))


def _weekday(rng: Random) -> Both:
    return _named_weekday(rng.randrange(7))


def _weekdays(rng: Random) -> Both:
    return listed([_named_weekday(day) for day in sorted(rng.sample(range(7), rng.randint(2, 3)))])


def _month(rng: Random) -> Both:
    month = rng.randint(1, 12)
    return worded(lambda at: str(at.months["format"]["wide"][month]))


def _quarter(rng: Random) -> Both:
    quarter = rng.randint(1, 4)
    return worded(lambda at: str(at.quarters["format"]["wide"][quarter]))


def _time(rng: Random) -> Both:
    time = dt.time(rng.randrange(24), 5 * rng.randrange(12))
    return worded(lambda at: dates.format_time(time, "short", locale=at))


def _relative(rng: Random, sign: int) -> Both:
    unit = rng.choice(tuple(_SECONDS))
    span = dt.timedelta(seconds=sign * _SECONDS[unit] * rng.randint(1, _MOST[unit]))
    return worded(
        lambda at: dates.format_timedelta(span, unit, threshold=1000, add_direction=True, locale=at)
    )


def _since(rng: Random) -> Both:
    """A span as it follows "seit", in the dative, which "vor 3 Jahren" shows."""
    ago = _relative(rng, -1)
    return Both(ago.de.removeprefix("vor "), ago.en.removesuffix(" ago"))


def _when(rng: Random, sign: int) -> Both:
    kind = rng.choice(("relative", "relative", "weekday", "day_month", "month", "date"))
    if kind == "relative":
        return _relative(rng, sign)
    both = TIMES[kind](rng)
    if kind == "month":
        return Both(f"im {both.de}", f"in {both.en}")
    return Both(f"am {both.de}", f"on {both.en}")


def _zone(rng: Random) -> Both:
    return rng.choice(_ZONES)


def _day(rng: Random) -> dt.date:
    return dt.date.fromordinal(_FIRST_DAY + rng.randrange(_DAYS))


def _named_weekday(day: int) -> Both:
    return worded(lambda at: str(at.days["format"]["wide"][day]))


def _zone_names() -> list[Both]:
    german, english = GERMAN.meta_zones, ENGLISH.meta_zones
    pairs = (
        (german[zone].get("long", {}).get(kind), english[zone].get("long", {}).get(kind))
        for zone in sorted(set(german) & set(english))
        for kind in ("standard", "daylight")
    )
    return [Both(de, en) for de, en in pairs if de and en]


_ZONES = _zone_names()

TIMES: dict[str, Draw] = {
    "date": _date,
    "full_date": _full_date,
    "day_month": _day_month,
    "interval": _interval,
    "weekday": _weekday,
    "weekdays": _weekdays,
    "month": _month,
    "quarter": _quarter,
    "time": _time,
    "relative": lambda rng: _relative(rng, rng.choice((-1, 1))),
    "past": lambda rng: _when(rng, -1),
    "future": lambda rng: _when(rng, 1),
    "since": _since,
    "zone": _zone,
}
