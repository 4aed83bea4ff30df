"""What features were on reference data: the distribution that drift is measured from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from holdfast import jsontext
from holdfast.errors import ConfigError, FormatError

SCHEMA = "holdfast-profile/1"
FILE = "monitor.profile.json"
SAMPLE_MIN = 100
_SAMPLE_MOST = 5000

Values = NDArray[np.float32]
"""Of 32 bits, on both sides: a length or a share must be equal to itself after any file."""


@dataclass(frozen=True)
class Profile:
    """A sorted sample of each feature. seed of the draw where there were more values: 0."""

    samples: Mapping[str, Values]

    @classmethod
    def capture(cls, features: Sequence[str], items: Sequence[Sequence[float]]) -> Profile:
        """The profile of items, each with the values of the features in order.

        Use data like that the model will meet, and not what it was trained on: its confidence is
        higher there. Values that are not finite are left out. Of more than 5,000 values 5,000 are
        drawn. Raises ConfigError for fewer than 100 values of a feature, which say too little.
        """
        table = np.asarray(items, dtype=np.float64).reshape(len(items), len(features))
        dice = np.random.default_rng(0)
        samples: dict[str, Values] = {}
        for column, name in enumerate(features):
            values = table[:, column][np.isfinite(table[:, column])]
            if len(values) < SAMPLE_MIN:
                raise ConfigError(
                    f"There are {len(values)} values of {name} to make a profile of",
                    fix=f"serve at least {SAMPLE_MIN} items of reference data",
                )
            if len(values) > _SAMPLE_MOST:
                values = dice.choice(values, _SAMPLE_MOST, replace=False)
            samples[name] = np.sort(values.astype(np.float32))
        return cls(samples)

    def write(self, path: Path) -> Path:
        """Write as JSON: distinct values with their counts; returns the file."""
        path.write_bytes(self.to_bytes())
        return path

    def to_bytes(self) -> bytes:
        """What `write` writes."""
        features: dict[str, jsontext.Json] = {}
        for name, sample in self.samples.items():
            values, counts = np.unique(sample, return_counts=True)
            shortest = [float(str(value)) for value in values]
            features[name] = {"values": list(shortest), "counts": counts.tolist()}
        return jsontext.dump({"schema": SCHEMA, "features": features})

    @classmethod
    def read(cls, path: Path) -> Profile:
        """The inverse of `write`. Raises FormatError if the file is not such a profile."""
        values = cast(dict[str, Any], jsontext.parse(path.read_bytes(), where=str(path)))
        try:
            if values["schema"] != SCHEMA:
                raise ConfigError(f"its schema is {values['schema']!r}")
            return cls({name: _sample(one) for name, one in values["features"].items()})
        except (AttributeError, ConfigError, KeyError, TypeError, ValueError) as error:
            raise FormatError(
                f"Not a profile of schema {SCHEMA}: {error}", where=str(path)
            ) from error


def _sample(stored: Mapping[str, Any]) -> Values:
    counts = np.asarray(stored["counts"], dtype=np.int64)
    values = np.asarray(stored["values"], dtype=np.float32)
    possible = values.shape == counts.shape and bool(np.isfinite(values).all())
    if not possible or (counts < 1).any() or counts.sum() > _SAMPLE_MOST:
        raise ConfigError("its values or counts cannot be those of a sample")
    sample = np.repeat(values, counts)
    if len(sample) < SAMPLE_MIN:
        raise ConfigError(f"a sample has {len(sample)} values")
    return np.sort(sample)
