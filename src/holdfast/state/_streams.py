"""The random streams of a process, each as a way to read it and a way to set it."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch

from holdfast.errors import ConfigError

Generator: TypeAlias = (
    "random.Random | np.random.Generator | np.random.RandomState | torch.Generator"
)
Generators: TypeAlias = "Mapping[str, Generator]"


@dataclass(frozen=True, slots=True)
class Stream:
    """kind: a state fits only a stream of the same kind. read: a copy of the state, advancing
    nothing. write: set it; raises RuntimeError, TypeError, ValueError or KeyError if unusable.
    """

    kind: str
    read: Callable[[], object]
    write: Callable[[Any], object]


def streams(generators: Generators, *, cuda: bool) -> dict[str, Stream]:
    """Every stream by name. cuda: whether to include CUDA devices (this initialises CUDA).

    Raises ConfigError for a generator of an unknown kind.
    """
    found = {
        "python": Stream("python.Random", random.getstate, random.setstate),
        "numpy": Stream(
            "numpy.MT19937", partial(np.random.get_state, legacy=False), np.random.set_state
        ),
        "torch:cpu": Stream("torch.cpu", torch.get_rng_state, torch.set_rng_state),
    }
    for index in range(torch.cuda.device_count() if cuda else 0):
        found[f"torch:cuda:{index}"] = Stream(
            "torch.cuda",
            partial(torch.cuda.get_rng_state, index),
            partial(torch.cuda.set_rng_state, device=index),
        )
    if torch.backends.mps.is_available():
        found["torch:mps"] = Stream("torch.mps", torch.mps.get_rng_state, torch.mps.set_rng_state)
    for name, generator in generators.items():
        found[f"generator:{name}"] = _passed(name, generator)
    return found


def _passed(name: str, generator: Generator) -> Stream:
    if isinstance(generator, random.SystemRandom):
        raise ConfigError(
            f"The generator {name!r} draws from the operating system and has no state",
            fix="pass a seeded random.Random, or leave it out",
        )
    if isinstance(generator, random.Random):
        return Stream("python.Random", generator.getstate, generator.setstate)
    if isinstance(generator, np.random.RandomState):
        read = partial(generator.get_state, legacy=False)
        return Stream(f"numpy.{type(generator._bit_generator).__name__}", read, generator.set_state)
    if isinstance(generator, np.random.Generator):
        bits = generator.bit_generator
        return Stream(
            f"numpy.{type(bits).__name__}",
            lambda: bits.state,
            lambda state: setattr(bits, "state", state),
        )
    if isinstance(generator, torch.Generator):
        kind = f"torch.{generator.device.type}"
        return Stream(kind, generator.get_state, generator.set_state)
    raise ConfigError(
        f"The generator {name!r} is a {type(generator).__name__}",
        fix="pass random.Random, numpy Generator or RandomState, or torch.Generator",
    )
