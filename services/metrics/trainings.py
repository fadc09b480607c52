"""Trainings, as MLflow knows them: who trains is gone before anybody could ask him."""

from __future__ import annotations

import math
import ssl
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import httpx
import msgspec
from msgspec import Struct
from prometheus_client.core import GaugeMetricFamily, Metric

from trading.errors import ConfigurationError, ServiceUnavailable

API = "/api/2.0/mlflow"
#: By the name and the tag that trainers give (`trainers.registry.tracking`).
EXPERIMENT, TRAININGS = "ultrathink", "tags.kind = 'training'"
#: What MLflow calls how a run is; the last three are of those that ended.
STATUSES = ("running", "scheduled", "finished", "failed", "killed")
ENDS = STATUSES[2:]
NEWEST = 200
#: What MLflow says of a name that nobody has given.
NO_EXPERIMENT = "RESOURCE_DOES_NOT_EXIST"
#: A training takes minutes; and a search costs MLflow some of a machine that decides.
EVERY_S, AGAIN_S = 60.0, 20.0
ASK_S = 4.0
Answer = TypeVar("Answer")


class Named(Struct):
    """Of an experiment."""

    experiment_id: str


class ByName(Struct):
    """MLflow's answer to a name."""

    experiment: Named


class RunInfo(Struct):
    """How a run is; times are milliseconds of wall time."""

    status: str
    start_time: int
    end_time: int | None = None


class Run(Struct):
    """One of a search's answer."""

    info: RunInfo


class Runs(Struct):
    """MLflow's answer to a search; it leaves out a list of none."""

    runs: list[Run] = []


class Refused(Struct):
    """Why MLflow does not answer."""

    error_code: str = ""


class TrainingsSource:
    """Implements Source over MLflow's REST API."""

    name = "mlflow"

    def __init__(self, uri: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Nothing is asked yet; `uri` is MLflow's, as http://127.0.0.1:5000. Raises ConfigurationError."""
        try:
            address = httpx.URL(uri)
            if address.scheme not in {"http", "https"} or not address.host:
                raise httpx.InvalidURL("neither http nor https, or no host")
            # Through no proxy; a company's own certificates are where SSL_CERT_FILE says, as for everybody.
            self._client = httpx.Client(
                base_url=address, timeout=ASK_S, trust_env=False, verify=ssl.create_default_context()
            )
        except httpx.InvalidURL as error:
            # It may hold a password, and is not shown.
            raise ConfigurationError(
                "ULTRATHINK_METRICS_MLFLOW_URI is no address as http://127.0.0.1:5000 is; empty, nobody is asked"
            ) from error
        self._clock, self._next_s, self._seen = clock, -math.inf, list[Metric]()
        #: Why the last search told nothing.
        self._problem = ""

    def look(self) -> Sequence[Metric]:
        """See Source; whether MLflow lives is asked each time, for trainings once a minute.

        Raises:
            ServiceUnavailable: it does not answer, or not as MLflow does.
        """
        try:
            self._client.get("/health").raise_for_status()
        except httpx.HTTPError as error:
            raise ServiceUnavailable(f"MLflow cannot be looked at: {in_words(error)}") from error
        if self._clock() >= self._next_s:
            self._search()
        if self._problem:
            raise ServiceUnavailable(f"MLflow cannot be looked at: {self._problem}")
        return self._seen

    def _search(self) -> None:
        try:
            self._seen, self._problem = families(self._runs()), ""
        except (httpx.HTTPError, msgspec.DecodeError) as error:
            self._problem = in_words(error)
        # One that hangs with its database is not asked at every look: each question holds a thread of its.
        self._next_s = self._clock() + (AGAIN_S if self._problem else EVERY_S)

    def close(self) -> None:
        """See Source."""
        self._client.close()

    def _runs(self) -> list[RunInfo]:
        """What MLflow tells of the newest trainings."""
        found = self._client.get(f"{API}/experiments/get-by-name", params={"experiment_name": EXPERIMENT})
        # Before the first training; any other page that is not there says nothing of trainings.
        if found.status_code == httpx.codes.NOT_FOUND and told(found, Refused).error_code == NO_EXPERIMENT:
            return []
        asked = {
            "experiment_ids": [told(found.raise_for_status(), ByName).experiment.experiment_id],
            "filter": TRAININGS, "order_by": ["attributes.start_time DESC"], "max_results": NEWEST,
        }  # fmt: skip
        answer = self._client.post(f"{API}/runs/search", json=asked).raise_for_status()
        return [run.info for run in told(answer, Runs).runs]


def told(answer: httpx.Response, kind: type[Answer]) -> Answer:
    """The body. Raises msgspec.DecodeError."""
    return msgspec.json.decode(answer.content, type=kind, strict=False)


def in_words(error: httpx.HTTPError | msgspec.DecodeError) -> str:
    """Without the address, which may hold a password."""
    if isinstance(error, httpx.HTTPStatusError):
        return f"{error.request.url.path}: HTTP {error.response.status_code}"
    return f"{type(error).__name__}: {error}"


def families(runs: Sequence[RunInfo]) -> list[Metric]:
    """What is shown of the newest trainings.

    One that was killed with its machine stays "running"; how long one took includes what it was interrupted for.
    """
    counts = dict.fromkeys(STATUSES, 0)
    last: dict[str, RunInfo] = {}
    for run in runs:
        status = run.status.lower()
        counts[status] = counts.get(status, 0) + 1
        # One that was interrupted and goes on keeps the end of before.
        if status in ENDS and run.end_time and run.end_time > end_ms_of(last.get(status)):
            last[status] = run
    number = GaugeMetricFamily(
        "ultrathink_trainings", f"Trainings of the newest {NEWEST} in MLflow, by how they are.", labels=["status"]
    )
    ended = GaugeMetricFamily(
        "ultrathink_training_last_end_timestamp_seconds", "When one last ended so.", labels=["status"]
    )
    took = GaugeMetricFamily(
        "ultrathink_training_last_seconds", "From its start to that end, interruptions included.", labels=["status"]
    )
    for status, count in counts.items():
        number.add_metric([status], count)
    for status, run in last.items():
        ended.add_metric([status], end_ms_of(run) / 1e3)
        took.add_metric([status], (end_ms_of(run) - run.start_time) / 1e3)
    return [number, ended, took]


def end_ms_of(run: RunInfo | None) -> int:
    """0 where it has not ended."""
    return 0 if run is None or run.end_time is None else run.end_time
