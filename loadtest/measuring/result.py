"""What a run found: one JSON file, whole or not there."""

from __future__ import annotations

import math
import os
import platform
from pathlib import Path
from typing import Any, Literal

import msgspec
import psutil
from msgspec import Struct

from loadtest.measuring.latencies import LatencySeries, LatencySummary
from trading.errors import ConfigurationError
from trading.files import write_atomically

FORMAT = 1
RunVerdict = Literal["held", "missed", "invalid", "unjudged"]


class Check(Struct, frozen=True):
    """One goal beside what was measured; `kind` says what a miss means."""

    name: str
    goal: str
    measured: float
    unit: str
    verdict: RunVerdict


class ServerSamples(Struct, frozen=True):
    """A process and its children over a run: seconds after its start, % of one core, MB."""

    name: str
    at_s: list[float]
    cpu_percent: list[float]
    memory_mb: list[float]


class RunResult(Struct, frozen=True, kw_only=True):
    """A run.

    All counts but `sent` leave the warm-up out.

    Attributes:
        target: the gates that it was judged by.
        model: open (arrivals fixed beforehand), or closed (Locust's users, corrected).
        settings: what the run was asked to do, as names and texts.
        planned, sent: arrivals of the measured part; and of the whole run.
        answered: distinct answers to the measured part.
        missing, repeated: arrivals without an answer; answers that came again.
        undecided: answers that say why nothing was decided (late, superseded, no prediction), by reason.
        errors: requests that failed, by sentence.
        offered_per_s, achieved_per_s: arrivals meant, and answers visible, in the measured part.
        latency: from the intended time to the answer: what a user waits.
        service: from the actual sending to the answer: the same without the generator's lag, and for a closed
            loop without the waiting that it hid.
        lag: from the intended time to the actual sending.
        bytes_an_answer: mean size.
    """

    format: int = FORMAT
    target: str
    model: Literal["open", "closed"] = "open"
    settings: dict[str, str]
    started_at: str
    machine: dict[str, str]
    warm_up_s: float
    seconds: float
    planned: int
    sent: int
    answered: int
    missing: int
    repeated: int = 0
    undecided: dict[str, int] = {}
    errors: dict[str, int] = {}
    offered_per_s: float
    achieved_per_s: float
    latency: LatencySummary
    service: LatencySummary
    lag: LatencySummary
    series: LatencySeries
    bytes_an_answer: float = 0.0
    servers: list[ServerSamples] = []
    checks: list[Check] = []
    verdict: RunVerdict = "unjudged"

    @property
    def error_ratio(self) -> float:
        """Of what was planned: lacking, repeated, undecided or failed."""
        bad = self.missing + self.repeated + sum(self.undecided.values()) + sum(self.errors.values())
        return bad / max(1, self.planned)

    @property
    def achieved_ratio(self) -> float:
        """Achieved over offered."""
        return self.achieved_per_s / self.offered_per_s if self.offered_per_s else math.nan


def machine() -> dict[str, str]:
    """What a figure depends on."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        )
        if Path("/proc/cpuinfo").exists()
        else iter(()),
        platform.processor() or platform.machine(),
    )
    return {
        "processor": model,
        "cores": str(os.cpu_count()),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def save(path: Path, result: RunResult) -> None:
    """Write the JSON in one step. Raises OSError."""
    write_atomically(path, msgspec.json.format(msgspec.json.encode(result), indent=0).decode())


def load(path: Path) -> RunResult:
    """Raises ConfigurationError for what is no result."""
    try:
        found = msgspec.convert(_with_nan(msgspec.json.decode(path.read_bytes())), RunResult)
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise ConfigurationError(
            f"{path} is no result of a load test ({error}): give the result.json that one wrote"
        ) from error
    if found.format != FORMAT:
        raise ConfigurationError(
            f"{path} has format {found.format}, this version reads {FORMAT}: run the test again"
        )
    return found


def _with_nan(raw: Any) -> Any:
    """JSON has no NaN, and null stands for it: what was not measured is not a number."""
    if isinstance(raw, dict):
        checks = raw.get("checks")
        summaries = [raw.get(name) for name in ("latency", "service", "lag")]
        for part in (*summaries, *(checks if isinstance(checks, list) else ())):
            if isinstance(part, dict):
                part.update({name: math.nan for name, value in part.items() if value is None})
    return raw
