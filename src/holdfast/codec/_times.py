"""Dates, times and time zones."""

from __future__ import annotations

import re
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

from holdfast.codec._payload import want_fields, want_int, want_list, want_str
from holdfast.codec._tag import DecodeChild, EncodeChild, Tag
from holdfast.errors import FormatError, UnsavableError
from holdfast.jsontext import Json

_MICROSECOND = timedelta(microseconds=1)
_ZONE_KEY = re.compile(r"[A-Za-z0-9_+-]{1,32}(/[A-Za-z0-9_+-]{1,32}){0,3}", re.ASCII)


def _decode_date(payload: Json, _: DecodeChild) -> date:
    text = want_str(payload)
    value = date.fromisoformat(text)
    if value.isoformat() != text:
        raise ValueError("expected a date as YYYY-MM-DD")
    return value


def _encode_clock(value: datetime | time, child: EncodeChild) -> Json:
    """The wall clock as ISO 8601 with microseconds, its PEP 495 fold, and its zone."""
    bare = value.replace(tzinfo=None)
    return {
        "iso": bare.isoformat(timespec="microseconds"),
        "fold": value.fold,
        "tz": child(value.tzinfo, ".tzinfo"),
    }


def _decode_clock(kind: Any, payload: Json, child: DecodeChild) -> Any:
    fields = want_fields(payload, "iso", "fold", "tz")
    text = want_str(fields["iso"])
    bare = kind.fromisoformat(text)
    if bare.tzinfo is not None or bare.isoformat(timespec="microseconds") != text:
        raise ValueError("expected an ISO 8601 time with microseconds and without a zone")
    zone = child(fields["tz"], ".tzinfo")
    if zone is not None and not isinstance(zone, tzinfo):
        raise ValueError("its tz is not a time zone")
    return bare.replace(fold=want_int(fields["fold"]), tzinfo=zone)


def _encode_timedelta(value: timedelta, _: EncodeChild) -> Json:
    return [value.days, value.seconds, value.microseconds]


def _decode_timedelta(payload: Json, _: DecodeChild) -> timedelta:
    days, seconds, microseconds = map(want_int, want_list(payload, 3))
    if not (0 <= seconds < 86_400 and 0 <= microseconds < 1_000_000):
        raise ValueError("its seconds or microseconds are out of range")
    return timedelta(days, seconds, microseconds)


def _encode_timezone(value: timezone, child: EncodeChild) -> Json:
    """The fixed offset from UTC in microseconds, and the zone's own name where it has one."""
    offset = value.utcoffset(None)
    name = value.tzname(None)
    own = None if name == timezone(offset).tzname(None) else name
    return {"offset": offset // _MICROSECOND, "name": child(own, ".name")}


def _decode_timezone(payload: Json, child: DecodeChild) -> timezone:
    fields = want_fields(payload, "offset", "name")
    offset = timedelta(microseconds=want_int(fields["offset"]))
    name = child(fields["name"], ".name")
    return timezone(offset) if name is None else timezone(offset, want_str(name))


def _encode_zoneinfo(value: ZoneInfo, _: EncodeChild) -> str:
    key = value.key
    if not key or not _ZONE_KEY.fullmatch(key):
        raise UnsavableError(
            f"A ZoneInfo with the key {key!r} cannot be saved",
            fix="make it with ZoneInfo(key), or save the time in UTC",
        )
    return key


def _decode_zoneinfo(payload: Json, _: DecodeChild) -> ZoneInfo:
    key = want_str(payload)
    if not _ZONE_KEY.fullmatch(key):
        raise ValueError("not the key of a time zone")
    try:
        return ZoneInfo(key)
    except (LookupError, OSError, ValueError) as error:
        raise FormatError(
            f"The time zone {key!r} is not known on this machine",
            fix="install the system's time zone data, or the tzdata package",
        ) from error


TIME_TAGS = (
    Tag("date", date, lambda value, _: value.isoformat(), _decode_date),
    Tag("datetime", datetime, _encode_clock, partial(_decode_clock, datetime)),
    Tag("time", time, _encode_clock, partial(_decode_clock, time)),
    Tag("timedelta", timedelta, _encode_timedelta, _decode_timedelta),
    Tag("timezone", timezone, _encode_timezone, _decode_timezone),
    Tag("zoneinfo", ZoneInfo, _encode_zoneinfo, _decode_zoneinfo),
)
