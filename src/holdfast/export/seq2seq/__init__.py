"""Sequence models exported as two graphs, a start and a step, and decoded from them alone.

What stands here needs no torch: a server imports it. `seq2seq.graphs` makes the graphs of a module,
`seq2seq.parity` compares their decoding with the module's, `seq2seq.program` runs `.pt2` archives.
"""

from holdfast.export.seq2seq.model import SequenceModel
from holdfast.export.seq2seq.onnx import load_onnx
from holdfast.export.seq2seq.recipe import CacheEntry, Recipe
from holdfast.export.seq2seq.steps import GraphSteps
from holdfast.export.seq2seq.text import TextModel, write_vocabularies

__all__ = [
    "CacheEntry",
    "GraphSteps",
    "Recipe",
    "SequenceModel",
    "TextModel",
    "load_onnx",
    "write_vocabularies",
]
