"""Whether members mean the same by the same index: by content, never by size."""

from __future__ import annotations

from collections.abc import Mapping

from holdfast.digest import digest_bytes
from holdfast.errors import MismatchError
from holdfast.jsontext import Json, dump


def vocabulary_digest(content: Json) -> str:
    """The digest of a vocabulary's content, as plain values."""
    return digest_bytes(dump(content))


def require_one_vocabulary(vocabularies: Mapping[str, Mapping[str, Json]]) -> None:
    """Refuse models whose vocabularies differ in content, even if they are of equal size.

    vocabularies: by model, its vocabularies by name (source, target) as plain values. A name that
    only one model has says nothing. Raises MismatchError listing every difference.
    """
    first: dict[str, tuple[str, str]] = {}
    problems = []
    for model, found in vocabularies.items():
        for name, content in found.items():
            digest = vocabulary_digest(content)
            other, known = first.setdefault(name, (model, digest))
            if known != digest:
                problems.append(f"{name} of {model} is {digest}, of {other} it is {known}")
    if problems:
        raise MismatchError(
            "The models do not mean the same by the same index, so their answers have no mean:",
            problems=problems,
            fix="join models that were trained with one vocabulary",
        )
