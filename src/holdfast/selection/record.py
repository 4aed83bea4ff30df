"""The recipe of an average, as it is kept in the manifest: enough to make it again bit for bit."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from holdfast.errors import FormatError
from holdfast.jsontext import Json
from holdfast.manifest import Manifest

RECIPE_KEY = "recipe"
_FORMAT, _VERSION = "holdfast-average", 1
_DIGEST = re.compile(r"xxh3-128(-parts)?:[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class MemberRecord:
    """One member. digest: of its model's tensor file, or of the whole `.pt` file; this decides.

    id: the manifest's, None for `.pt` files. path: where it was, a hint only.
    """

    name: str
    id: str | None
    digest: str
    path: str
    epoch: int
    global_step: int


@dataclass(frozen=True, slots=True)
class Recipe:
    """What an average was made of, and how.

    members: from oldest to newest. weights: whole numbers, one for each. only: patterns of the
    FQNs that were averaged, empty for all; the others are of the newest member. rules: pattern to
    rule, where the kind of a tensor did not decide. dtype: of averaged tensors, None for their own.
    recalibrated: statistics measured by running the model, which no recipe can repeat. component:
    what was averaged of each member, the model or an average kept beside it.
    """

    members: tuple[MemberRecord, ...]
    weights: tuple[int, ...]
    only: tuple[str, ...] = ()
    rules: tuple[tuple[str, str], ...] = ()
    dtype: str | None = None
    recalibrated: tuple[str, ...] = ()
    component: str = "model"

    def with_recalibrated(self, names: tuple[str, ...]) -> Recipe:
        """The same recipe with other statistics measured anew."""
        return replace(self, recalibrated=names)

    def to_json(self) -> Json:
        """The recipe as the manifest holds it."""
        return {
            "format": _FORMAT,
            "version": _VERSION,
            "members": [
                {**asdict(member), "weight": str(weight)}
                for member, weight in zip(self.members, self.weights, strict=True)
            ],
            "only": list(self.only),
            "rules": [list(rule) for rule in self.rules],
            "dtype": self.dtype,
            "recalibrated": list(self.recalibrated),
            **({} if self.component == "model" else {"component": self.component}),
        }


def recipe_of(manifest: Manifest, *, where: str) -> Recipe:
    """The recipe in a manifest. Raises FormatError if there is none, or not one of ours."""
    fields = manifest.extra.get(RECIPE_KEY)
    if not isinstance(fields, Mapping):
        raise FormatError(
            "The checkpoint is no average: its manifest holds no recipe",
            where=where,
            fix="give the folder that average() returned",
        )
    if fields.get("format") != _FORMAT or fields.get("version") != _VERSION:
        raise FormatError(
            f"Its recipe is not of {_FORMAT} version {_VERSION}",
            where=where,
            fix="install the holdfast that wrote it",
        )
    try:
        return _parsed(fields)
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"Its recipe is not well-formed: {error}", where=where) from error


def _parsed(fields: Mapping[str, Any]) -> Recipe:
    members = fields["members"]
    if not isinstance(members, Sequence) or isinstance(members, str) or not members:
        raise ValueError("members must be a list that is not empty")
    dtype = fields["dtype"]
    return Recipe(
        members=tuple(_member(entry) for entry in members),
        weights=tuple(_weight(entry["weight"]) for entry in members),
        only=tuple(_text(pattern) for pattern in fields["only"]),
        rules=tuple((_text(pattern), _text(rule)) for pattern, rule in fields["rules"]),
        dtype=None if dtype is None else _text(dtype),
        recalibrated=tuple(_text(name) for name in fields["recalibrated"]),
        component=_text(fields.get("component", "model")),
    )


def _member(entry: Mapping[str, Any]) -> MemberRecord:
    digest = _text(entry["digest"])
    if _DIGEST.fullmatch(digest) is None:
        raise ValueError(f"{digest[:80]!r} is no digest")
    return MemberRecord(
        name=_text(entry["name"]),
        id=None if entry["id"] is None else _text(entry["id"]),
        digest=digest,
        path=_text(entry["path"]),
        epoch=_whole(entry["epoch"]),
        global_step=_whole(entry["global_step"]),
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{str(value)[:80]!r} must be text")
    return value


def _whole(value: object) -> int:
    if type(value) is not int:
        raise TypeError(f"{str(value)[:80]!r} must be a whole number")
    return value


def _weight(value: object) -> int:
    text = _text(value)
    if re.fullmatch(r"[1-9][0-9]{0,39}", text) is None:
        raise ValueError(f"{text[:80]!r} is no weight")
    return int(text)
