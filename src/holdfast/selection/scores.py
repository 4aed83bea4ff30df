"""Scores on disk: what an evaluation found of some weights, so that it need not be asked again."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from holdfast.digest import digest_bytes
from holdfast.errors import ConfigError, FormatError
from holdfast.jsontext import Json, dump, parse_object
from holdfast.stats import SufficientStatistics, aggregate_of, aggregate_record
from holdfast.storage.single_file import commit_file

SCHEMA = "holdfast-scores/1"


class ScoreCache:
    """Statistics by weights and evaluation, one JSON file each in `folder`.

    identity: of the evaluation; with None nothing is kept. The version of torch is part of the key,
    because other kernels may give other bits.
    """

    def __init__(self, folder: Path, identity: str | None) -> None:
        self._folder = folder
        self._identity = identity

    @property
    def keeps(self) -> bool:
        """Whether anything is kept at all."""
        return self._identity is not None

    def get(self, weights: str) -> SufficientStatistics | None:
        """What is kept of these weights; None if nothing is, or if the file is not sound."""
        if self._identity is None:
            return None
        path = self._path(weights)
        try:
            return _parsed(path.read_bytes(), self._key(weights), where=str(path))
        except (OSError, FormatError, ConfigError):
            return None  # it is measured again, and the file replaced

    def put(self, weights: str, statistics: SufficientStatistics) -> bool:
        """Keep the statistics; whether they can be kept: aggregates of the user's own cannot."""
        aggregate = aggregate_record(statistics.aggregate)
        if self._identity is None or aggregate is None:
            return False
        values = np.ascontiguousarray(statistics.values, dtype="<f8")
        record: dict[str, Json] = {
            "schema": SCHEMA,
            "key": self._key(weights),
            "signature": statistics.signature,
            "higher_is_better": statistics.higher_is_better,
            "test_set": statistics.test_set,
            "aggregate": aggregate,
            "shape": list(values.shape),
            "values": base64.b64encode(values.tobytes()).decode(),
            "digest": digest_bytes(values.tobytes()),
        }
        data = dump(record, indent=2) + b"\n"
        commit_file(self._path(weights), lambda path: path.write_bytes(data))
        return True

    def _key(self, weights: str) -> Mapping[str, Json]:
        return {
            "weights": weights,
            "evaluation": self._identity,
            "torch": str(torch.__version__),
        }

    def _path(self, weights: str) -> Path:
        return self._folder / f"{digest_bytes(dump(self._key(weights))).partition(':')[2]}.json"


def _parsed(data: bytes, key: Mapping[str, Json], *, where: str) -> SufficientStatistics:
    record: Mapping[str, Any] = parse_object(data, where=where)
    if record.get("schema") != SCHEMA or record.get("key") != key:
        raise FormatError("It holds other scores", where=where)
    try:
        raw = base64.b64decode(record["values"], validate=True)
        if digest_bytes(raw) != record["digest"]:
            raise FormatError("The scores are not those that were kept", where=where)
        values = np.frombuffer(raw, dtype="<f8").reshape(record["shape"])
        return SufficientStatistics(
            values=values,
            aggregate=aggregate_of(record["aggregate"]),
            signature=str(record["signature"]),
            higher_is_better=record["higher_is_better"] is True,
            test_set=str(record["test_set"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"The kept scores are not well-formed: {error}", where=where) from error
