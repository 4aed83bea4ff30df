"""A small encoder-decoder Transformer for translation, pre-norm.

After "Attention Is All You Need" (Vaswani et al., arXiv 1706.03762) with the layer norms moved
before each sublayer ("On Layer Normalization in the Transformer Architecture", arXiv 2002.04745)
and the target embedding reused as the output projection ("Using the Output Embedding to Improve
Language Models", arXiv 1608.05859).

Shapes: B sentences, S source tokens, T target tokens, H heads, D model width, V target vocabulary.
Masks are boolean and true where there is a token. Padding stands on the right.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from holdfast.demo.attention import Attention, AttentionCache
from holdfast.demo.vocab import PAD
from holdfast.errors import ConfigError


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Everything needed to build the same model again: sizes, and one probability.

    dropout applies to the embeddings and to the output of every sublayer.
    """

    source_vocabulary: int
    target_vocabulary: int
    width: int = 128
    feedforward_width: int = 512
    heads: int = 4
    encoder_layers: int = 2
    decoder_layers: int = 2
    dropout: float = 0.1
    positions_max: int = 512

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for `model_config=` of a save."""
        return {"model_type": "holdfast-demo-transformer", **asdict(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelConfig:
        """The inverse of `to_dict`. Raises ConfigError on unknown or missing names."""
        given = {name: value for name, value in values.items() if name != "model_type"}
        try:
            return cls(**given)
        except TypeError as error:
            raise ConfigError(f"Not a configuration of the demo model: {error}") from error


@dataclass(frozen=True, slots=True)
class DecoderState:
    """What one-token decoding carries along: per decoder layer one cache, and the position.

    caches hold self-attention keys and values [B, H, length, D/H] and those of the encoded source
    [B, H, S, D/H]; source_mask is [B, S].
    """

    self_caches: tuple[AttentionCache, ...]
    cross_caches: tuple[AttentionCache, ...]
    source_mask: Tensor
    length: int

    def select(self, rows: Tensor) -> DecoderState:
        """The state of the sentences `rows` [B', int64] only, in that order."""
        return DecoderState(
            tuple(cache.select(rows) for cache in self.self_caches),
            tuple(cache.select(rows) for cache in self.cross_caches),
            self.source_mask[rows],
            self.length,
        )


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward, each normed before and added after."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.width)
        self.attention = Attention(config.width, config.heads)
        self.feedforward_norm = nn.LayerNorm(config.width)
        self.feedforward = _feedforward(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x: [B, S, D], mask: [B, S] -> [B, S, D]."""
        normed = self.attention_norm(x)
        x = x + self.dropout(self.attention(normed, normed, mask=mask, is_causal=False))
        return x + self.dropout(self.feedforward(self.feedforward_norm(x)))  # type: ignore[no-any-return]


class DecoderLayer(nn.Module):
    """Causal self-attention, attention over the source, feed-forward."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.width)
        self.attention = Attention(config.width, config.heads)
        self.cross_norm = nn.LayerNorm(config.width)
        self.cross_attention = Attention(config.width, config.heads)
        self.feedforward_norm = nn.LayerNorm(config.width)
        self.feedforward = _feedforward(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, memory: Tensor, memory_mask: Tensor) -> Tensor:
        """x: [B, T, D], memory: [B, S, D], memory_mask: [B, S] -> [B, T, D].

        Target padding needs no mask: it stands on the right, where causality hides it.
        """
        normed = self.attention_norm(x)
        x = x + self.dropout(self.attention(normed, normed, mask=None, is_causal=True))
        crossed = self.cross_attention(
            self.cross_norm(x), memory, mask=memory_mask, is_causal=False
        )
        x = x + self.dropout(crossed)
        return x + self.dropout(self.feedforward(self.feedforward_norm(x)))  # type: ignore[no-any-return]

    def step(
        self, x: Tensor, cache: AttentionCache, cross: AttentionCache, memory_mask: Tensor
    ) -> tuple[Tensor, AttentionCache]:
        """The newest position only. x: [B, 1, D] -> [B, 1, D] and the grown cache."""
        attended, cache = self.attention.step(self.attention_norm(x), cache)
        x = x + attended
        x = x + self.cross_attention.attend(self.cross_norm(x), cross, mask=memory_mask)
        x = x + self.feedforward(self.feedforward_norm(x))
        return x, cache


class TranslationTransformer(nn.Module):
    """Source ids in, target logits out; `start` and `decode_step` decode token by token."""

    positions: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.source_embedding = nn.Embedding(config.source_vocabulary, config.width, PAD)
        self.target_embedding = nn.Embedding(config.target_vocabulary, config.width, PAD)
        self.register_buffer(
            "positions", sinusoids(config.positions_max, config.width), persistent=False
        )
        self.dropout = nn.Dropout(config.dropout)
        self.encoder = nn.ModuleList(EncoderLayer(config) for _ in range(config.encoder_layers))
        self.encoder_norm = nn.LayerNorm(config.width)
        self.decoder = nn.ModuleList(DecoderLayer(config) for _ in range(config.decoder_layers))
        self.decoder_norm = nn.LayerNorm(config.width)
        self.output = nn.Linear(config.width, config.target_vocabulary, bias=False)
        self._initialize()
        self.output.weight = self.target_embedding.weight

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """source: [B, S] ids, target: [B, T] ids beginning with <s> -> logits [B, T, V]."""
        source_mask = source != PAD
        hidden = self.decode(target, self.encode(source, source_mask), source_mask)
        return self.logits(hidden)

    def encode(self, source: Tensor, source_mask: Tensor) -> Tensor:
        """source: [B, S] ids, source_mask: [B, S] -> [B, S, D]."""
        x = self._embed(self.source_embedding, source, start=0)
        for layer in self.encoder:
            x = layer(x, source_mask)
        return self.encoder_norm(x)  # type: ignore[no-any-return]

    def decode(self, target: Tensor, memory: Tensor, source_mask: Tensor) -> Tensor:
        """target: [B, T] ids, memory: [B, S, D], source_mask: [B, S] -> hidden [B, T, D]."""
        x = self._embed(self.target_embedding, target, start=0)
        for layer in self.decoder:
            x = layer(x, memory, source_mask)
        return self.decoder_norm(x)  # type: ignore[no-any-return]

    def logits(self, hidden: Tensor) -> Tensor:
        """hidden: [..., D] -> logits [..., V]."""
        return self.output(hidden)  # type: ignore[no-any-return]

    def start(self, source: Tensor) -> DecoderState:
        """Encode source ids [B, S] and return the state before the first target token."""
        source_mask = source != PAD
        memory = self.encode(source, source_mask)
        layers = self._decoder_layers()
        return DecoderState(
            tuple(layer.attention.empty_cache(memory) for layer in layers),
            tuple(layer.cross_attention.cache(memory) for layer in layers),
            source_mask,
            0,
        )

    def decode_step(self, token: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
        """One target token per sentence, [B] ids -> logits [B, V] and the next state.

        Equal to the last position of `forward` over all tokens so far, in evaluation mode.
        """
        x = self._embed(self.target_embedding, token[:, None], start=state.length)
        caches: list[AttentionCache] = []
        for index, layer in enumerate(self._decoder_layers()):
            x, cache = layer.step(
                x, state.self_caches[index], state.cross_caches[index], state.source_mask
            )
            caches.append(cache)
        following = DecoderState(
            tuple(caches), state.cross_caches, state.source_mask, state.length + 1
        )
        return self.logits(self.decoder_norm(x))[:, 0], following

    def _decoder_layers(self) -> list[DecoderLayer]:
        return cast(list[DecoderLayer], list(self.decoder))

    def _embed(self, embedding: nn.Module, ids: Tensor, *, start: int) -> Tensor:
        end = start + ids.shape[1]
        if end > self.config.positions_max:
            raise ConfigError(
                f"A sequence of {end} tokens is longer than the model's {self.config.positions_max}"
                " positions",
                fix="shorten the sentence or build the model with a larger positions_max",
            )
        scaled = embedding(ids) * math.sqrt(self.config.width)
        return self.dropout(scaled + self.positions[start:end])  # type: ignore[no-any-return]

    def _initialize(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=self.config.width**-0.5)
                with torch.no_grad():
                    module.weight[PAD].zero_()


def sinusoids(positions: int, width: int) -> Tensor:
    """Sine and cosine position vectors, [positions, width], float32 (arXiv 1706.03762, 3.5)."""
    rates = torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
    angles = torch.arange(positions)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=2).reshape(positions, width)


def _feedforward(config: ModelConfig) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(config.width, config.feedforward_width),
        nn.ReLU(),
        nn.Linear(config.feedforward_width, config.width),
    )
