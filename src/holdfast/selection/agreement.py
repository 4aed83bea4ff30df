"""Whether checkpoints are of one model: all differences at once, so that nobody has to guess."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from holdfast.ensemble.vocabulary import vocabulary_digest
from holdfast.errors import MismatchError
from holdfast.jsontext import Json
from holdfast.selection.members import Member

_SHOWN_MAX = 12
_NAMES_MAX = 6


def require_one_model(members: Sequence[Member], *, same_dtypes: bool, config: bool = True) -> None:
    """Refuse members whose mean would be of different things.

    Compared with the newest are: tensor names, shapes, dtypes (unless not `same_dtypes`), ties,
    what is saved beside tensors, the model configuration (unless not `config`) and vocabularies,
    each where both sides know theirs. Raises MismatchError listing every difference.
    """
    newest = members[-1]
    problems: list[str] = []
    for member in members[:-1]:
        found = list(_differences(newest, member, same_dtypes=same_dtypes, config=config))
        shown = [f"{member.record.name}: {difference}" for difference in found[:_SHOWN_MAX]]
        if len(found) > _SHOWN_MAX:
            shown.append(f"{member.record.name}: and {len(found) - _SHOWN_MAX} more")
        problems += shown
    if problems:
        raise MismatchError(
            f"These checkpoints are not of one model (compared with {newest.record.name}); "
            "their average would mean nothing:",
            problems=problems,
            where=newest.place,
            fix="average checkpoints of one architecture, configuration and vocabulary; "
            "runs that began from different weights do not average well even then",
        )


def _differences(
    newest: Member, other: Member, *, same_dtypes: bool, config: bool
) -> Iterator[str]:
    if config and newest.config is not None and other.config is not None:
        yield from _config_differences(newest.config, other.config)
    yield from _vocabulary_differences(newest.vocabularies, other.vocabularies)
    yield from _name_differences(newest.tensors.keys(), other.tensors.keys())
    for name, facts in newest.tensors.items():
        found = other.tensors.get(name)
        if found is None:
            continue
        if found.shape != facts.shape:
            yield f"{name} has shape {list(found.shape)}, not {list(facts.shape)}"
        elif same_dtypes and found.dtype != facts.dtype:
            yield f"{name} is of {found.dtype}, not {facts.dtype} (choose one with dtype=)"
    if dict(newest.aliases) != dict(other.aliases):
        odd = sorted(set(newest.aliases.items()) ^ set(other.aliases.items()))
        yield f"other tensors are tied: {', '.join(f'{a} to {b}' for a, b in odd[:3])}"


def _name_differences(newest: Collection[str], other: Collection[str]) -> Iterator[str]:
    for what, names in (
        ("missing", [name for name in newest if name not in other]),
        ("there too", [name for name in other if name not in newest]),
    ):
        if names:
            more = f" and {len(names) - _NAMES_MAX} more" if len(names) > _NAMES_MAX else ""
            yield f"{what}: {', '.join(names[:_NAMES_MAX])}{more}"


def _config_differences(newest: Json, other: Json) -> Iterator[str]:
    if newest == other:
        return
    if not isinstance(newest, Mapping) or not isinstance(other, Mapping):
        yield "the model configuration differs"
        return
    for key in [*newest, *(key for key in other if key not in newest)]:
        if newest.get(key) != other.get(key):
            yield (
                f"the model configuration has {key}={_shown(other, key)}, not {_shown(newest, key)}"
            )


def _shown(config: Mapping[str, Json], key: str) -> str:
    return repr(config[key])[:80] if key in config else "nothing"


def _vocabulary_differences(newest: Mapping[str, Json], other: Mapping[str, Json]) -> Iterator[str]:
    for name in newest.keys() & other.keys():
        mine, theirs = vocabulary_digest(newest[name]), vocabulary_digest(other[name])
        if mine != theirs:
            yield f"the component {name} has the digest {theirs}, not {mine}"
