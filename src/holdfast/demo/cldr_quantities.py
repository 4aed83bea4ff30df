"""Numbers, shares, money and measures for the sentences of the embedded corpus."""

from __future__ import annotations

from random import Random

from babel import numbers, units

from holdfast.demo.cldr_choices import CURRENCIES, UNITS
from holdfast.demo.cldr_draw import Both, Draw, worded


def _number(rng: Random) -> Both:
    count = rng.randint(1000, 999_999)
    return worded(lambda at: numbers.format_decimal(count, locale=at))


def _compact(rng: Random) -> Both:
    count = rng.randint(11, 999) * 100_000
    return worded(
        lambda at: numbers.format_compact_decimal(
            count, format_type="long", locale=at, fraction_digits=1
        )
    )


def _percent(rng: Random) -> Both:
    share = rng.randint(1, 990) / 1000
    return worded(
        lambda at: numbers.format_percent(
            share, at.percent_formats[None].pattern.replace("0", "0.#"), locale=at
        )
    )


def _money(rng: Random) -> Both:
    currency = rng.choice(CURRENCIES)
    whole = rng.random() < 0.5
    amount = rng.randint(2, 2000) if whole else rng.randint(101, 99_999) / 100
    pattern = "#,##0" if whole else "#,##0.00"
    return worded(
        lambda at: numbers.format_currency(
            amount, currency, pattern, locale=at, currency_digits=False, format_type="name"
        )
    )


def _currency(rng: Random) -> Both:
    code = rng.choice(CURRENCIES)
    return worded(lambda at: numbers.get_currency_name(code, locale=at))


def _measure(rng: Random, kind: str) -> Both:
    unit, low, high, step = rng.choice(UNITS[kind])
    value = round(rng.randint(round(low / step), round(high / step)) * step, 2)
    shown = int(value) if value == int(value) else value
    return worded(lambda at: units.format_unit(shown, unit, "long", locale=at))


def _measures(kind: str) -> Draw:
    return lambda rng: _measure(rng, kind)


QUANTITIES: dict[str, Draw] = {
    "number": _number,
    "compact": _compact,
    "percent": _percent,
    "money": _money,
    "currency": _currency,
    **{kind: _measures(kind) for kind in UNITS},
}
