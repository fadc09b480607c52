"""What Prometheus is told of a stack's processes, its models, its GPU, and the age of its secrets."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from exporters.errors import ExportError
from exporters.release.journal import Journal
from exporters.repository.repository import ModelRepository
from exporters.repository.state import journal_path
from services.metrics.gathering import Source
from stack.servers.settings import StackSettings
from stack.supervision.status import READY, StackStatus, read_status
from trading.errors import ServiceUnavailable

MB = 2**20


def desk_sources(settings: StackSettings) -> list[Source]:
    """Those of a stack that was started."""
    repository = settings.model_repository.expanduser().resolve()
    found: list[Source] = [
        ProcessSource(settings.absolute_home),
        ReleasesSource(repository),
        SecretSource(settings.absolute_home / "secrets"),
    ]
    with contextlib.suppress(ImportError):
        found.append(GpuSource())
    return found


class ProcessSource:
    """The health matrix."""

    name = "processes"

    def __init__(self, home: Path) -> None:
        self._home = home

    def look(self) -> Sequence[Metric]:
        """See Source. Raises ServiceUnavailable where nobody supervises."""
        status = read_status(self._home)
        if status is None:
            raise ServiceUnavailable(f"nothing runs in {self._home}")
        return processes(status)

    def close(self) -> None:
        """See Source."""


def processes(status: StackStatus) -> list[Metric]:
    """What is shown of each process, and of the supervisor."""
    gauges = {
        "ready": "1 while it answers in its own protocol.",
        "held": "1 while it is not started, and should not be.",
        "degraded": "1 while it answers and something that it needs does not.",
        "memory_bytes": "Memory of it and its children, shared pages left out.",
        "memory_limit_bytes": "Its ceiling.",
        "cpu_ratio": "Processors that it uses.",
        "uptime_seconds": "Since it started.",
    }
    families = {
        name: GaugeMetricFamily(f"ultrathink_process_{name}", text, labels=["process"])
        for name, text in gauges.items()
    }
    counts = {
        name: CounterMetricFamily(f"ultrathink_process_{name}", text, labels=["process"])
        for name, text in (
            ("restarts", "Starts after the first, since the supervisor's."),
            ("out_of_memory", "Ends for want of memory, since the supervisor started."),
        )
    }
    available = GaugeMetricFamily(
        "ultrathink_process_availability_ratio", "Share of a window in which it was ready.",
        labels=["process", "window"],
    )  # fmt: skip
    for one in status.services:
        values = (
            one.state == READY, bool(one.held), bool(one.degraded), one.memory_mb * MB, one.memory_limit_mb * MB,
            one.cpu_percent / 100, one.uptime_s,
        )  # fmt: skip
        for family, value in zip(families.values(), values, strict=True):
            family.add_metric([one.name], float(value))
        counts["restarts"].add_metric([one.name], one.restarts)
        counts["out_of_memory"].add_metric([one.name], one.out_of_memory)
        for window, share in (("1h", one.hour), ("24h", one.day)):
            if share is not None:
                available.add_metric([one.name, window], share)
    alive = status.alive and status.fresh
    up = GaugeMetricFamily("ultrathink_supervisor_up", "1 while the supervisor tells how all are.", value=alive)
    problems = GaugeMetricFamily(
        "ultrathink_machine_problems",
        "What is wrong with the machine: its disk, a ceiling.",
        value=len(status.problems),
    )
    return [*families.values(), *counts.values(), available, up, problems]


class ReleasesSource:
    """What is released, how far it differs from its source, and how releases ended."""

    name = "models"

    def __init__(self, repository: Path) -> None:
        self._repository = repository

    def look(self) -> Sequence[Metric]:
        """See Source. Raises ServiceUnavailable where it is not there, and what the repository raises."""
        if not self._repository.is_dir():
            raise ServiceUnavailable(f"{self._repository} is no folder: it is made with the first model")
        version = GaugeMetricFamily("ultrathink_model_version", "Newest released version.", labels=["model"])
        parity = GaugeMetricFamily(
            "ultrathink_model_parity_max_abs_difference", "Of the released file from its source, at most.",
            labels=["model"],
        )  # fmt: skip
        intact = GaugeMetricFamily(
            "ultrathink_model_lineage_readable", "1 where the released version says where it comes from.",
            labels=["model"],
        )  # fmt: skip
        found = ModelRepository(self._repository)
        for name in found.names():
            if not (serving := found.serving(name)).versions:
                continue
            newest = max(serving.versions)
            version.add_metric([name], newest)
            try:
                lineage = found.lineage(name, newest)
            except ExportError:
                intact.add_metric([name], 0.0)
                continue
            intact.add_metric([name], 1.0)
            parity.add_metric([name], lineage.parity_max_abs)
        ended = CounterMetricFamily(
            "ultrathink_releases", "Releases and rollbacks by their end.", labels=["action", "end"]
        )
        counts: dict[tuple[str, str], int] = {}
        for one in Journal(journal_path(self._repository)).transactions():
            key = one.begun.action, "open" if one.open else one.last.step
            counts[key] = counts.get(key, 0) + 1
        for labels, count in sorted(counts.items()):
            ended.add_metric(list(labels), count)
        return [version, parity, intact, ended]

    def close(self) -> None:
        """See Source."""


class SecretSource:
    """How old passwords, tokens and keys are; nothing of what they say."""

    name = "secrets"

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def look(self) -> Sequence[Metric]:
        """See Source."""
        age = GaugeMetricFamily("ultrathink_secret_age_seconds", "Since it was made.", labels=["secret"])
        now_s = time.time()
        for path in sorted(self._folder.iterdir()):
            if path.is_file() and not path.name.startswith("."):
                age.add_metric([path.name], max(0.0, now_s - path.stat().st_mtime))
        return [age]

    def close(self) -> None:
        """See Source."""


class GpuSource:
    """Each GPU by the names of the DCGM exporter, in its units: MiB, degrees Celsius, percent."""

    name = "gpu"

    def __init__(self) -> None:
        """Nothing is asked yet. Raises ImportError where the library is not installed, or finds no driver."""
        import pynvml

        self._nvml: Any = pynvml
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            raise ImportError("no driver of a GPU") from error

    def look(self) -> Sequence[Metric]:
        """See Source. Raises what NVML raises."""
        nvml = self._nvml
        families = {
            "DCGM_FI_DEV_FB_USED": "Memory that is used, in MiB.",
            "DCGM_FI_DEV_FB_FREE": "Memory that is free, in MiB.",
            "DCGM_FI_DEV_GPU_TEMP": "Temperature, in degrees Celsius.",
            "DCGM_FI_DEV_GPU_UTIL": "Share of time in which something ran, in percent.",
        }
        made = {name: GaugeMetricFamily(name, text, labels=["gpu"]) for name, text in families.items()}
        for index in range(nvml.nvmlDeviceGetCount()):
            card = nvml.nvmlDeviceGetHandleByIndex(index)
            memory = nvml.nvmlDeviceGetMemoryInfo(card)
            values = (
                memory.used / MB, memory.free / MB, nvml.nvmlDeviceGetTemperature(card, nvml.NVML_TEMPERATURE_GPU),
                nvml.nvmlDeviceGetUtilizationRates(card).gpu,
            )  # fmt: skip
            for family, value in zip(made.values(), values, strict=True):
                family.add_metric([str(index)], float(value))
        return list(made.values())

    def close(self) -> None:
        """See Source."""
        self._nvml.nvmlShutdown()
