"""MLflow, by its tracking client: a server, or a local store without one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from holdfast.trackers.clients import PREFIX, chosen_text, client, cost_numbers, finite, scores
from holdfast.values import CheckpointInfo

_SAFE = str.maketrans(dict.fromkeys("\\:*?\"<>|%#&'+=,;()[]{}!@$^~`", "_"))


class MLflowTracker:
    """Logs metrics, and tags such as `holdfast.best.val_bleu`, to one MLflow run.

    tracking_uri: None takes MLflow's own setting. run_id: of a run to go on with; None makes one in
    `experiment`. Checkpoints are named, not uploaded. Raises ConfigError if mlflow is not there.
    """

    def __init__(
        self,
        *,
        tracking_uri: str | None = None,
        experiment: str = "holdfast",
        run_id: str | None = None,
    ) -> None:
        module = client("mlflow", "mlflow-skinny")
        self._client = module.MlflowClient(tracking_uri=tracking_uri)
        self._owned = run_id is None
        self.run_id = run_id or self._new_run(experiment)

    def _new_run(self, experiment: str) -> str:
        known = self._client.get_experiment_by_name(experiment)
        identity = (
            self._client.create_experiment(experiment) if known is None else known.experiment_id
        )
        return str(self._client.create_run(identity).info.run_id)

    def saved(self, path: Path, info: CheckpointInfo, cost: Mapping[str, Any]) -> None:
        """Metrics, size and cost at the global step; the newest checkpoint as a tag."""
        numbers = {f"{PREFIX}checkpoint_bytes": float(info.bytes)}
        for name, value in (finite(info.metrics) | numbers | cost_numbers(cost)).items():
            self._metric(name, value, info.global_step)
        self._tag("holdfast.latest", str(path))

    def best(self, metric: str, path: Path, info: CheckpointInfo) -> None:
        """The best value so far, and whose it is as a tag."""
        self._metric(f"{PREFIX}best/{metric}", info.metrics[metric], info.global_step)
        self._tag(f"holdfast.best.{metric}", str(path))

    def failed(self, path: Path, error: BaseException) -> None:
        """The last error as a tag."""
        self._tag("holdfast.failed", f"{path.name}: {error}")

    def selected(self, selection: Mapping[str, Any]) -> None:
        """Scores as metrics, who was chosen as a tag, and the record as an artifact."""
        for name, score in scores(selection).items():
            self._metric(f"{PREFIX}selection/{name}", score, 0)
        self._tag("holdfast.selected", chosen_text(selection))
        self._client.log_dict(self.run_id, dict(selection), "holdfast-selection.json")

    def close(self) -> None:
        """Mark a run that was made here as finished."""
        if self._owned:
            self._client.set_terminated(self.run_id)

    def _metric(self, name: str, value: float, step: int) -> None:
        self._client.log_metric(self.run_id, name.translate(_SAFE)[:250], value, step=step)

    def _tag(self, name: str, value: str) -> None:
        self._client.set_tag(self.run_id, name.translate(_SAFE)[:250], value[:4000])
