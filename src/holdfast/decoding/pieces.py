"""Word tokens that join back to exactly the text they came from.

A token carries the one space before it, so joining is reversing: no joiner marks, no escapes, no
detokeniser rules. Digits stand alone, so that numbers are read and written figure by figure. A word
the vocabulary lacks is spelled in its characters, which are ordinary tokens too.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from holdfast import jsontext
from holdfast.errors import ConfigError, FormatError, MismatchError

PAD, BOS, EOS, UNKNOWN = range(4)
SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")
SCHEMA = "holdfast-vocabulary/1"
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"

_TOKEN = re.compile(r" ?\d| ?[^\W\d_]+|'[^\W\d_]+| ?[^\s]|\s")


def tokenize(text: str) -> list[str]:
    """Cut any text into tokens; `join(tokenize(text)) == text` for every string."""
    return _TOKEN.findall(" " + text)


def join(tokens: Iterable[str]) -> str:
    """The text of a sequence of tokens; one space at the very beginning belongs to no one."""
    text = "".join(tokens)
    return text[1:] if text.startswith(" ") else text


class Vocabulary:
    """A fixed, ordered table of tokens; the first four are special.

    pieces: every token once, the special ones first. Raises ConfigError otherwise.
    """

    def __init__(self, pieces: Sequence[str]) -> None:
        if tuple(pieces[: len(SPECIAL)]) != SPECIAL or len(set(pieces)) != len(pieces):
            raise ConfigError(
                f"A vocabulary holds every token once and begins with {' '.join(SPECIAL)}",
                fix="build it with Vocabulary.build",
            )
        self.pieces = tuple(pieces)
        self._ids = {piece: index for index, piece in enumerate(self.pieces)}

    def __len__(self) -> int:
        return len(self.pieces)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self.pieces == other.pieces

    def __hash__(self) -> int:
        return hash(self.pieces)

    @classmethod
    def build(
        cls, sentences: Iterable[str], *, count_min: int = 2, size_max: int = 8000
    ) -> Vocabulary:
        """Count the tokens of `sentences`; keep the characters and the most frequent words.

        count_min: a rarer word is spelled instead. size_max: at most so many entries, characters
        always among them. The order depends on the counts alone, never on hashing.
        """
        words = Counter(token for sentence in sentences for token in tokenize(sentence))
        characters: Counter[str] = Counter()
        for word, count in words.items():
            for piece in _spell(word):
                characters[piece] += count
        frequent = [word for word, count in words.items() if count >= count_min]
        frequent.sort(key=lambda word: (-words[word], word))
        alphabet = sorted(characters)
        room = max(0, size_max - len(SPECIAL) - len(alphabet))
        chosen = [word for word in frequent if word not in characters][:room]
        reserved = set(SPECIAL)
        return cls([*SPECIAL, *(p for p in [*alphabet, *chosen] if p not in reserved)])

    def encode(self, text: str) -> list[int]:
        """Ids of the tokens of `text`, without begin and end marks; unknown words are spelled."""
        ids: list[int] = []
        for token in tokenize(text):
            known = self._ids.get(token)
            if known is not None:
                ids.append(known)
            else:
                ids.extend(self._ids.get(piece, UNKNOWN) for piece in _spell(token))
        return ids

    def unknown_rate(self, text: str) -> float:
        """The share of the words of `text` that are not in the table and must be spelled."""
        tokens = tokenize(text)
        return sum(token not in self._ids for token in tokens) / len(tokens)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids` up to the first end mark; an unknown character shows as U+FFFD."""
        tokens: list[str] = []
        for index in ids:
            if index == EOS:
                break
            if index == UNKNOWN:
                tokens.append(REPLACEMENT)
            elif index not in (PAD, BOS):
                tokens.append(self.pieces[index])
        return join(tokens)

    def write(self, path: Path) -> None:
        """Write the table as JSON."""
        path.write_bytes(self.to_bytes())

    def to_bytes(self) -> bytes:
        """What `write` writes."""
        values: dict[str, jsontext.Json] = {"schema": SCHEMA, "pieces": list(self.pieces)}
        return jsontext.dump(values, indent=1)

    @classmethod
    def read(cls, path: Path) -> Vocabulary:
        """The inverse of `write`. Raises FormatError if the file is not such a table."""
        values = jsontext.parse(path.read_bytes(), where=str(path))
        known = isinstance(values, dict) and values.get("schema") == SCHEMA
        try:
            return cls(cast(dict[str, Any], values)["pieces"] if known else [])
        except (ConfigError, KeyError, TypeError) as error:
            raise FormatError(f"Not a vocabulary of schema {SCHEMA}", where=str(path)) from error

    def state_dict(self) -> dict[str, Any]:
        """The table, so that a checkpoint can be used without the corpus it was trained on."""
        return {"pieces": list(self.pieces)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Check that the stored table is this one.

        Raises MismatchError if it differs: the ids in the weights would mean other words.
        """
        if tuple(state["pieces"]) != self.pieces:
            raise MismatchError(
                f"The checkpoint was trained with another vocabulary ({len(state['pieces'])} "
                f"entries, this one has {len(self.pieces)})",
                fix="resume with the corpus the run was started with",
            )


def _spell(token: str) -> list[str]:
    """The characters of a token; a leading space stays with the first."""
    if len(token) > 1 and token[0] == " ":
        return [token[:2], *token[2:]]
    return list(token)
