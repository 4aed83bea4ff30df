"""The demo's Transformer decoded step by step: with cached keys and values, or without.

Both keep to `holdfast.decoding.tensors.StepModule` and give the same distributions; the one without
runs the whole decoder over all tokens so far at each step.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from holdfast.decoding.tensors import ROWS, Axes, TensorCache
from holdfast.demo.attention import AttentionCache
from holdfast.demo.model import DecoderState, TranslationTransformer
from holdfast.demo.vocab import PAD

SOURCE, PAST = "source", "past"
MASK = "source_mask"


class CachedSteps(nn.Module):
    """Each step computes the newest position only, over the keys and values of those before."""

    def __init__(self, model: TranslationTransformer) -> None:
        super().__init__()
        self.model = model

    @property
    def cache_axes(self) -> dict[str, Axes]:
        """Two growing and two fixed tensors [rows, heads, length, D/H] a layer, and the mask."""
        axes: dict[str, Axes] = {MASK: (ROWS, SOURCE)}
        for layer in range(self.model.config.decoder_layers):
            for kind, length in (("past", PAST), ("source", SOURCE)):
                axes[f"{kind}_keys_{layer}"] = (ROWS, None, length, None)
                axes[f"{kind}_values_{layer}"] = (ROWS, None, length, None)
        return axes

    def start(self, source: Tensor) -> TensorCache:
        """Source ids [rows, source], padded on the right."""
        return _named(self.model.start(source))

    def step(self, tokens: Tensor, cache: TensorCache) -> tuple[Tensor, TensorCache]:
        """Tokens [rows] -> log-probabilities [rows, V] and the grown cache."""
        logits, state = self.model.decode_step(tokens, self._state(cache))
        return log_softmax(logits, dim=1), {**cache, **_past(state)}

    def _state(self, cache: TensorCache) -> DecoderState:
        past, source = (
            tuple(
                AttentionCache(cache[f"{kind}_keys_{layer}"], cache[f"{kind}_values_{layer}"])
                for layer in range(self.model.config.decoder_layers)
            )
            for kind in ("past", "source")
        )
        return DecoderState(past, source, cache[MASK], past[0].keys.shape[2])


class WholeSteps(nn.Module):
    """Each step decodes all tokens so far again."""

    def __init__(self, model: TranslationTransformer) -> None:
        super().__init__()
        self.model = model
        self.cache_axes: dict[str, Axes] = {
            MASK: (ROWS, SOURCE),
            "memory": (ROWS, SOURCE, None),
            "prefix": (ROWS, PAST),
        }

    def start(self, source: Tensor) -> TensorCache:
        """Source ids [rows, source], padded on the right."""
        mask = source != PAD
        memory = self.model.encode(source, mask)
        return {MASK: mask, "memory": memory, "prefix": source.new_zeros(source.shape[0], 0)}

    def step(self, tokens: Tensor, cache: TensorCache) -> tuple[Tensor, TensorCache]:
        """Tokens [rows] -> log-probabilities [rows, V] and the longer prefix."""
        prefix = torch.cat([cache["prefix"], tokens[:, None]], dim=1)
        hidden = self.model.decode(prefix, cache["memory"], cache[MASK])
        logits = self.model.logits(hidden[:, -1])
        return log_softmax(logits, dim=1), {**cache, "prefix": prefix}


def _named(state: DecoderState) -> TensorCache:
    cache = {MASK: state.source_mask, **_past(state)}
    for layer, cross in enumerate(state.cross_caches):
        cache[f"source_keys_{layer}"], cache[f"source_values_{layer}"] = cross.keys, cross.values
    return cache


def _past(state: DecoderState) -> TensorCache:
    cache: TensorCache = {}
    for layer, past in enumerate(state.self_caches):
        cache[f"past_keys_{layer}"], cache[f"past_values_{layer}"] = past.keys, past.values
    return cache
