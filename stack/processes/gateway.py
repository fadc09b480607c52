"""Gateway processes that can be hurt."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import msgspec

from stack.servers.ports import free_ports
from stack.servers.settings import StackSettings
from stack.servers.status import log_path
from trading.errors import ServiceUnavailable

START_S = 60.0


class SeriesTopics(msgspec.Struct, frozen=True):
    """The topics that one series of gateways writes; all series read the same ticks."""

    series: str

    @property
    def names(self) -> dict[str, str]:
        """Topic -> the system's topic that it is like."""
        return {
            f"{self.series}.decisions": "trading.decisions",
            f"{self.series}.dlq": "market.ticks.dlq",
            f"{self.series}.snapshots": "gateway.snapshots",
            f"{self.series}.control": "gateway.control",
            f"{self.series}.orders": "trading.orders",
            f"{self.series}.fills": "trading.fills",
        }

    def environment(self) -> dict[str, str]:
        """What tells a gateway to write there."""
        decisions, letters, snapshots, control, orders, fills = self.names
        prefix = "ULTRATHINK_GATEWAY_"
        return {
            f"{prefix}GROUP": self.series,
            f"{prefix}DECISIONS_TOPIC": decisions,
            f"{prefix}DEAD_LETTERS_TOPIC": letters,
            f"{prefix}SNAPSHOTS_TOPIC": snapshots,
            f"{prefix}CONTROL_TOPIC": control,
            f"{prefix}ORDERS_TOPIC": orders,
            f"{prefix}FILLS_TOPIC": fills,
        }


class GatewayProcess:
    """One gateway of a series, under a lasting name."""

    def __init__(self, settings: StackSettings, topics: SeriesTopics, name: str, **environment: str) -> None:
        self._settings, self._topics, self._name = settings, topics, name
        self._extra = {f"ULTRATHINK_GATEWAY_{key.upper()}": value for key, value in environment.items()}
        (self.port,) = free_ports(1)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the running process."""
        if self._process is None:
            raise ServiceUnavailable(f"gateway {self._name} does not run")
        return self._process.pid

    def start(self) -> None:
        """Start it, without waiting for anything."""
        home = self._settings.absolute_home
        with log_path(home, f"gateway-{self._topics.series}-{self._name}").open("ab") as output:
            self._process = subprocess.Popen(
                [os.fspath(Path(sys.executable).parent / "ultrathink"), "gateway", "run"],
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env={
                    **os.environ,
                    "ULTRATHINK_HOME": os.fspath(home),
                    "ULTRATHINK_GATEWAY_METRICS_PORT": str(self.port),
                    "ULTRATHINK_GATEWAY_INSTANCE": self._name,
                    **self._topics.environment(),
                    **self._extra,
                },
                start_new_session=True,
            )

    def kill(self) -> None:
        """SIGKILL, as the kernel does when memory runs out."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def ended(self) -> int | None:
        """Its exit code, if it has one."""
        return self._process.poll() if self._process is not None else None

    def signal(self, number: int) -> None:
        """Any other signal."""
        os.kill(self.pid, number)

    def drain(self, timeout_s: float = 60.0) -> int:
        """SIGTERM; returns the exit code."""
        if self._process is None:
            return 0
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(timeout_s)
        self._process = None
        return code

    def partitions(self) -> list[int]:
        """Owned and ready; none while it does not answer."""
        try:
            found = httpx.get(f"http://127.0.0.1:{self.port}/status", timeout=1.0).json()["partitions"]
        except (httpx.HTTPError, ValueError, KeyError):
            return []
        return [int(p) for p in found]

    def wait_for_partitions(self, count: int, timeout_s: float = START_S) -> float:
        """Seconds until it owned so many. Raises ServiceUnavailable."""
        began = time.monotonic()
        while time.monotonic() - began < timeout_s:
            if self.ended() is not None:
                break
            if len(self.partitions()) == count:
                return time.monotonic() - began
            time.sleep(0.02)
        raise ServiceUnavailable(
            f"gateway {self._name} of {self._topics.series} does not own {count} partitions: see its log in "
            f"{log_path(self._settings.absolute_home, f'gateway-{self._topics.series}-{self._name}')}"
        )


@contextmanager
def gateway(
    settings: StackSettings, topics: SeriesTopics, name: str, *, partitions: int | None = None, **environment: str
) -> Iterator[GatewayProcess]:
    """A gateway that owns its partitions; ended at the end whatever happens."""
    process = GatewayProcess(settings, topics, name, **environment)
    try:
        process.start()
        process.wait_for_partitions(settings.partitions if partitions is None else partitions)
        yield process
    finally:
        process.kill()
