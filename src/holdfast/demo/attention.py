"""Multi-head attention, whole sequences at once or one token at a time with cached keys."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from holdfast.errors import ConfigError


@dataclass(frozen=True, slots=True)
class AttentionCache:
    """Keys and values already computed, each [B, H, length, D/H]."""

    keys: Tensor
    values: Tensor

    def select(self, rows: Tensor) -> AttentionCache:
        """Only the sentences `rows` [B', int64], in that order."""
        return AttentionCache(self.keys[rows], self.values[rows])


class Attention(nn.Module):
    """Scaled dot-product attention with `heads` heads over `width` features, without dropout.

    Dropping single attention weights would keep a CPU from its fused kernel. Raises ConfigError if
    the width does not divide into the heads.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ConfigError(f"The model width {width} is not a multiple of {heads} heads")
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)

    def forward(
        self, queries: Tensor, keys: Tensor, *, mask: Tensor | None, is_causal: bool
    ) -> Tensor:
        """queries: [B, T, D], keys: [B, S, D], mask: [B, S] of usable keys -> [B, T, D]."""
        return self.attend(queries, self.cache(keys), mask=mask, is_causal=is_causal)

    def attend(
        self,
        queries: Tensor,
        cache: AttentionCache,
        *,
        mask: Tensor | None,
        is_causal: bool = False,
    ) -> Tensor:
        """Attend from queries [B, T, D] to keys and values computed before -> [B, T, D]."""
        heads = scaled_dot_product_attention(
            self._split(self.query(queries)),
            cache.keys,
            cache.values,
            attn_mask=None if mask is None else mask[:, None, None, :],
            is_causal=is_causal,
        )
        return self.output(heads.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]

    def step(self, x: Tensor, cache: AttentionCache) -> tuple[Tensor, AttentionCache]:
        """Self-attention of the newest position x [B, 1, D] -> [B, 1, D] and the grown cache."""
        newest = self.cache(x)
        grown = AttentionCache(
            torch.cat([cache.keys, newest.keys], dim=2),
            torch.cat([cache.values, newest.values], dim=2),
        )
        return self.attend(x, grown, mask=None), grown

    def cache(self, keys: Tensor) -> AttentionCache:
        """Keys and values of [B, S, D]."""
        return AttentionCache(self._split(self.key(keys)), self._split(self.value(keys)))

    def empty_cache(self, like: Tensor) -> AttentionCache:
        """A cache of length 0 for the batch, dtype and device of `like` [B, S, D]."""
        empty = like.new_zeros(like.shape[0], self.heads, 0, like.shape[2] // self.heads)
        return AttentionCache(empty, empty)

    def _split(self, x: Tensor) -> Tensor:
        batch, length, _ = x.shape
        return x.view(batch, length, self.heads, -1).transpose(1, 2)
