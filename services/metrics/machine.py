"""This machine by the names of node_exporter: memory, processors, the disk that is written, the clock."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from pathlib import Path

import psutil
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, UnknownMetricFamily

#: Of `adjtimex`: nobody keeps the clock right.
TIME_ERROR = 5


class MachineSource:
    """Implements Source."""

    name = "machine"

    def __init__(self, folder: Path) -> None:
        """`folder` is on the disk that is watched."""
        self._folder = folder

    def look(self) -> Sequence[Metric]:
        """See Source."""
        memory, disk = psutil.virtual_memory(), psutil.disk_usage(os.fspath(self._folder))
        place = os.fspath(self._folder)
        return [
            GaugeMetricFamily("node_memory_MemTotal_bytes", "Memory.", value=memory.total),
            GaugeMetricFamily("node_memory_MemAvailable_bytes", "Memory that can be had.", value=memory.available),
            GaugeMetricFamily("node_load1", "Processes that run or wait to.", value=os.getloadavg()[0]),
            GaugeMetricFamily("node_boot_time_seconds", "When it was started.", value=psutil.boot_time()),
            of_disk("node_filesystem_size_bytes", "Size of the disk.", place, disk.total),
            of_disk("node_filesystem_avail_bytes", "Space on the disk that can be had.", place, disk.free),
            processors(),
            *ended_for_memory(),
            *clock(),
        ]

    def close(self) -> None:
        """See Source."""


def of_disk(name: str, text: str, place: str, value: float) -> Metric:
    """A figure of the disk that holds a folder."""
    family = GaugeMetricFamily(name, text, labels=["mountpoint"])
    family.add_metric([place], value)
    return family


def processors() -> Metric:
    """Seconds of all processors together in each mode."""
    family = CounterMetricFamily("node_cpu_seconds", "Time of the processors in a mode.", labels=["mode"])
    for mode, seconds in psutil.cpu_times()._asdict().items():
        family.add_metric([mode], seconds)
    return family


def ended_for_memory(counts: Path = Path("/proc/vmstat")) -> list[Metric]:
    """What the kernel has ended for want of memory since it booted; nothing where it does not tell."""
    try:
        told = dict(line.split() for line in counts.read_text().splitlines())
        return [UnknownMetricFamily("node_vmstat_oom_kill", "Processes ended.", value=float(told["oom_kill"]))]
    except (OSError, KeyError, ValueError):
        return []


class Timex(ctypes.Structure):
    """The beginning of the kernel's struct timex; see adjtimex(2)."""

    _fields_ = (
        ("modes", ctypes.c_uint), ("offset", ctypes.c_long), ("freq", ctypes.c_long), ("maxerror", ctypes.c_long),
        ("rest", ctypes.c_byte * 256),
    )  # fmt: skip


def clock() -> list[Metric]:
    """Whether the clock is kept right, and by how much it may be wrong; nothing where the kernel does not tell."""
    told = Timex()
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.byref(told))
    except (OSError, AttributeError):
        return []
    if state < 0:
        return []
    return [
        GaugeMetricFamily("node_timex_sync_status", "1 while the clock is kept right.", value=state != TIME_ERROR),
        GaugeMetricFamily("node_timex_maxerror_seconds", "How wrong it may be at most.", value=told.maxerror / 1e6),
    ]
