"""A model small enough to be exported in a second, with everything that exports get wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from holdfast.export import Axis, Graph, Signature, prepared, tokens
from holdfast.export.prepare import Prepared

QUICK = ("program", "onnx", "torchscript-trace")
VOCABULARY, WIDTH, LONGEST = 20, 8, 12
BATCH, LENGTH = Axis("batch", 1, 5), Axis("length", 1, LONGEST)
SIGNATURE = Signature((tokens("ids", (BATCH, LENGTH), VOCABULARY),), ("logits",))


class Tagger(nn.Module):
    """Ids [batch, length] to logits [batch, length, vocabulary].

    It has a buffer, dropout, batch normalisation with learned statistics, and tied weights.
    """

    positions: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.register_buffer("positions", torch.randn(LONGEST, WIDTH))
        self.inner = nn.Linear(WIDTH, WIDTH)
        self.dropout = nn.Dropout(0.2)
        self.norm = nn.BatchNorm1d(WIDTH)
        self.output = nn.Linear(WIDTH, VOCABULARY, bias=False)
        self.output.weight = self.embedding.weight

    def forward(self, ids: Tensor) -> Tensor:
        """See the class."""
        x = self.embedding(ids) + self.positions[: ids.shape[1]]
        x = self.dropout(self.inner(x)).relu()
        x = self.norm(x.transpose(1, 2)).transpose(1, 2)
        logits: Tensor = self.output(x)
        return logits


def new_tagger() -> Tagger:
    """The same weights each time, with statistics as training leaves them."""
    torch.manual_seed(3)
    model = Tagger()
    with torch.no_grad():
        for _ in range(5):
            model(torch.randint(1, VOCABULARY, (4, 6)))
    return model


@contextmanager
def ready(model: nn.Module | None = None, signature: Signature = SIGNATURE) -> Iterator[Prepared]:
    """The tagger, or another model, prepared for export."""
    with prepared(Graph("model", model or new_tagger(), signature)) as found:
        yield found


def posing_as(prepared_one: Prepared, model: nn.Module, **changes: object) -> Prepared:
    """What an exporter sees that was handed the wrong model or signature."""
    graph = replace(prepared_one.graph, module=model, **changes)  # type: ignore[arg-type]
    return Prepared(graph, prepared_one.cases, prepared_one.expected, prepared_one.unused)
