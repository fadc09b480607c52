"""Trainings, as MLflow knows them: who trains is gone before anybody could ask him."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import httpx
from prometheus_client.core import GaugeMetricFamily, Metric

from trading.errors import ServiceUnavailable

API = "/api/2.0/mlflow"
#: By the name and the tag that trainers give (`trainers.registry.tracking`).
EXPERIMENT, TRAININGS = "ultrathink", "tags.kind = 'training'"
#: What MLflow calls how a run is.
STATUSES = ("running", "scheduled", "finished", "failed", "killed")
NEWEST = 200
#: A training takes minutes; and a question costs MLflow some of a machine that decides.
EVERY_S = 60.0
ASK_S = 4.0


class TrainingsSource:
    """Implements Source over MLflow's REST API."""

    name = "mlflow"

    def __init__(self, url: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Nothing is asked yet; `url` is MLflow's, as http://127.0.0.1:5000."""
        self._client = httpx.Client(base_url=url, timeout=ASK_S, trust_env=False)
        self._clock, self._asked_s, self._seen = clock, -EVERY_S, list[Metric]()

    def look(self) -> Sequence[Metric]:
        """See Source; asked once a minute. Raises ServiceUnavailable."""
        now_s = self._clock()
        if now_s - self._asked_s >= EVERY_S:
            self._seen = families(self._runs())
            self._asked_s = now_s
        return self._seen

    def close(self) -> None:
        """See Source."""
        self._client.close()

    def _runs(self) -> list[dict[str, Any]]:
        """What MLflow tells of the newest trainings."""
        try:
            found = self._client.get(f"{API}/experiments/get-by-name", params={"experiment_name": EXPERIMENT})
            if found.status_code == httpx.codes.NOT_FOUND:
                return []
            asked = {
                "experiment_ids": [found.raise_for_status().json()["experiment"]["experiment_id"]],
                "filter": TRAININGS, "order_by": ["attributes.start_time DESC"], "max_results": NEWEST,
            }  # fmt: skip
            told = self._client.post(f"{API}/runs/search", json=asked).raise_for_status().json()
            return [run["info"] for run in told.get("runs", [])]
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            raise ServiceUnavailable(f"MLflow cannot be looked at: {error!r}") from error


def families(runs: Sequence[dict[str, Any]]) -> list[Metric]:
    """What is shown of the newest trainings; times of MLflow are milliseconds."""
    counts = dict.fromkeys(STATUSES, 0)
    ends: dict[str, float] = {}
    lasted: dict[str, float] = {}
    for run in runs:
        status = str(run["status"]).lower()
        counts[status] = counts.get(status, 0) + 1
        if (end_ms := int(run.get("end_time", 0))) and end_ms / 1e3 > ends.get(status, 0.0):
            ends[status], lasted[status] = end_ms / 1e3, (end_ms - int(run["start_time"])) / 1e3
    number = GaugeMetricFamily(
        "ultrathink_trainings", f"Trainings of the newest {NEWEST} in MLflow, by how they are.", labels=["status"]
    )
    ended = GaugeMetricFamily(
        "ultrathink_training_last_end_timestamp_seconds", "When one last ended so.", labels=["status"]
    )
    took = GaugeMetricFamily("ultrathink_training_last_seconds", "How long that took.", labels=["status"])
    for status, count in counts.items():
        number.add_metric([status], count)
    for status, end_s in ends.items():
        ended.add_metric([status], end_s)
        took.add_metric([status], lasted[status])
    return [number, ended, took]
