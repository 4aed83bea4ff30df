"""Models for the table of exports: the example's, and small ones of transformers' configurations.

Nothing is downloaded: every model is built from a configuration with random weights.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from holdfast.demo.model import ModelConfig, TranslationTransformer
from holdfast.export import Axis, Exportable, Input, Signature, exportable, tokens

BATCH = Axis("batch", 1, 8)
LENGTH = Axis("length", 1, 48)


class Logits(nn.Module):
    """A transformers model as a function of positional tensors that returns its logits.

    names: of the arguments its forward takes, in order.
    """

    def __init__(self, model: nn.Module, *names: str) -> None:
        super().__init__()
        self.model = model
        self.names = names

    def forward(self, *inputs: Tensor) -> Tensor:
        """Positional tensors to logits."""
        given: dict[str, Any] = dict(zip(self.names, inputs, strict=True))
        logits: Tensor = self.model(**given, return_dict=True).logits
        return logits


def example_model() -> Exportable:
    """The demo's translation Transformer, smaller."""
    model = TranslationTransformer(
        ModelConfig(200, 220, width=32, feedforward_width=64, heads=2, positions_max=64)
    )
    source = tokens("source", (BATCH, Axis("source_length", 1, 48)), 200)
    target = tokens("target", (BATCH, Axis("target_length", 1, 48)), 220)
    return exportable(model, Signature((source, target), ("logits",)))


def gpt2() -> Exportable:
    """GPT-2 (Radford et al., 2019): learned positions."""
    hub = importlib.import_module("transformers")
    config = hub.GPT2Config(
        vocab_size=120, n_positions=64, n_embd=32, n_layer=2, n_head=2, use_cache=False
    )
    return _decoder(hub.GPT2LMHeadModel(config))


def llama() -> Exportable:
    """Llama (arXiv 2302.13971): rotary positions, grouped keys, RMS norms."""
    hub = importlib.import_module("transformers")
    config = hub.LlamaConfig(
        vocab_size=120,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        use_cache=False,
    )
    return _decoder(hub.LlamaForCausalLM(config))


def t5() -> Exportable:
    """T5 (arXiv 1910.10683): encoder and decoder, relative positions, tied embeddings."""
    hub = importlib.import_module("transformers")
    config = hub.T5Config(
        vocab_size=120, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, use_cache=False
    )
    return _translator(hub.T5ForConditionalGeneration(config))


def marian() -> Exportable:
    """Marian (aclanthology P18-4020): encoder and decoder, sinusoidal positions."""
    hub = importlib.import_module("transformers")
    config = hub.MarianConfig(
        vocab_size=120,
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        max_position_embeddings=64,
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
        forced_eos_token_id=1,
        use_cache=False,
    )
    return _translator(hub.MarianMTModel(config))


def vit() -> Exportable:
    """ViT (arXiv 2010.11929): images of one size, any number of them."""
    hub = importlib.import_module("transformers")
    config = hub.ViTConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        image_size=32,
        patch_size=8,
        num_labels=10,
    )
    model = Logits(hub.ViTForImageClassification(config), "pixel_values")
    return exportable(model, Signature((Input("pixel_values", (BATCH, 3, 32, 32)),), ("logits",)))


def resnet() -> Exportable:
    """ResNet (arXiv 1512.03385): convolutions and batch normalisation."""
    hub = importlib.import_module("transformers")
    config = hub.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=10
    )
    model = Logits(hub.ResNetForImageClassification(config), "pixel_values")
    size = Axis("size", 16, 64)
    images = Input("pixel_values", (BATCH, 3, size, size))
    return exportable(model, Signature((images,), ("logits",)))


ARCHITECTURES: dict[str, Callable[[], Exportable]] = {
    "example": example_model,
    "T5": t5,
    "Marian": marian,
    "GPT-2": gpt2,
    "Llama": llama,
    "ViT": vit,
    "ResNet": resnet,
}


def build(name: str) -> Exportable:
    """The model of this name, the same weights each time."""
    torch.manual_seed(0)
    return ARCHITECTURES[name]()


def _decoder(model: nn.Module) -> Exportable:
    ids = tokens("input_ids", (BATCH, LENGTH), 120)
    mask = Input("attention_mask", (BATCH, LENGTH), "int64", 0, 1, mask=True)
    wrapped = Logits(model, "input_ids", "attention_mask")
    return exportable(wrapped, Signature((ids, mask), ("logits",)))


def _translator(model: nn.Module) -> Exportable:
    source = Axis("source_length", 1, 48)
    ids = tokens("input_ids", (BATCH, source), 120)
    mask = Input("attention_mask", (BATCH, source), "int64", 0, 1, mask=True)
    target = tokens("decoder_input_ids", (BATCH, Axis("target_length", 1, 40)), 120)
    wrapped = Logits(model, "input_ids", "attention_mask", "decoder_input_ids")
    return exportable(wrapped, Signature((ids, mask, target), ("logits",)))
