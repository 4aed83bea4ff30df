"""Text in, text out, from an exported sequence model and its vocabularies."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from holdfast.decoding import Hypothesis
from holdfast.decoding.pieces import EOS, Vocabulary
from holdfast.export.seq2seq.model import SequenceModel
from holdfast.export.seq2seq.onnx import load_onnx

SOURCE_FILE, TARGET_FILE = "source.vocabulary.json", "target.vocabulary.json"


@dataclass(frozen=True)
class Translated:
    """One answer: its text, and what it was made from and of.

    unknown_rate: share of the sentence's words that the vocabulary lacks.
    """

    text: str
    source: list[int]
    unknown_rate: float
    hypothesis: Hypothesis


@dataclass(frozen=True)
class TextModel:
    """A sequence model with the vocabularies it was trained with."""

    model: SequenceModel
    source: Vocabulary
    target: Vocabulary

    @classmethod
    def load_onnx(cls, folder: str | os.PathLike[str], name: str, *, threads: int = 1) -> TextModel:
        """The model `name` of a folder of ONNX files and vocabularies. Raises as `load_onnx`."""
        source, target = (Vocabulary.read(Path(folder) / f) for f in (SOURCE_FILE, TARGET_FILE))
        return cls(load_onnx(folder, name, threads=threads), source, target)

    def translate(self, sentences: Sequence[str], *, width: int = 1) -> list[Translated]:
        """Translate sentences, in their order; width 1 is greedy search.

        Raises InputError for a sentence longer than the model was exported for.
        """
        sources = [[*self.source.encode(sentence), EOS] for sentence in sentences]
        found = self.model.decode(sources, width=width)
        return [
            Translated(
                self.target.decode(hypothesis.tokens),
                source,
                self.source.unknown_rate(sentence),
                hypothesis,
            )
            for sentence, source, hypothesis in zip(sentences, sources, found, strict=True)
        ]


def write_vocabularies(folder: Path, source: Vocabulary, target: Vocabulary) -> tuple[Path, Path]:
    """Write both vocabularies where `TextModel.load_onnx` looks for them; returns the files."""
    paths = folder / SOURCE_FILE, folder / TARGET_FILE
    source.write(paths[0])
    target.write(paths[1])
    return paths
