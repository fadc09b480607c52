"""Gateways: the one way to start one, and topics of their own for those that are compared."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx
from msgspec import Struct

from connectors.kafka.topics import TOPICS, Topics
from gateway.settings import GatewaySettings
from stack.processes.own import OwnProcess, running
from stack.processes.scrape import Scrape
from stack.servers.identity import describe_exit
from stack.servers.loopback import client
from stack.servers.ports import free_ports
from stack.servers.settings import LOOPBACK, StackSettings

START_S = 60.0
PREFIX = "ULTRATHINK_GATEWAY_"


class GatewayProcess(OwnProcess):
    """A gateway that tells which partitions it owns."""

    def __init__(
        self,
        settings: StackSettings,
        *,
        log_name: str = "gateway",
        port: int | None = None,
        environment: Mapping[str, str] | None = None,
        **given: Any,
    ) -> None:
        """Prepare.

        Args:
            settings: of the stack.
            log_name: of its log.
            port: of its metrics and commands; default: the stack's.
            environment: added to its environment.
            given: settings of the gateway, by their names.
        """
        self.port = settings.ports.gateway_metrics if port is None else port
        self._partitions = settings.partitions
        variables = {PREFIX + name.upper(): str(value) for name, value in given.items()}
        variables[PREFIX + "METRICS_PORT"] = str(self.port)
        super().__init__(settings, ("gateway", "run"), log_name, {**variables, **(environment or {})})

    def partitions(self) -> list[int]:
        """Owned and ready; none while it does not answer."""
        try:
            found = client().get(f"http://{LOOPBACK}:{self.port}/status", timeout=1.0).json()["partitions"]
        except (httpx.HTTPError, ValueError, KeyError):
            return []
        return [int(p) for p in found]

    def scrape(self) -> Scrape:
        """Its metrics now. Raises ServiceUnavailable with the end of its log where it does not answer."""
        try:
            return Scrape.of(client().get(f"http://{LOOPBACK}:{self.port}/metrics", timeout=5.0).text, {})
        except httpx.HTTPError as error:
            raise self.failure(f"it does not answer ({error})") from error

    def decided(self) -> float:
        """Decisions published so far."""
        return self.scrape().value("gateway_ticks_total")

    def wait_for_partitions(self, count: int | None = None, timeout_s: float = START_S) -> float:
        """Seconds until it owned so many (default: all). Raises ServiceUnavailable with the end of its log."""
        wanted = self._partitions if count is None else count
        began = time.monotonic()
        while time.monotonic() - began < timeout_s:
            if (code := self.ended()) is not None:
                raise self.failure(describe_exit(code))
            if len(self.partitions()) == wanted:
                return time.monotonic() - began
            time.sleep(0.02)
        raise self.failure(f"it does not own {wanted} partitions after {timeout_s:.0f} s")


@contextmanager
def running_gateway(
    settings: StackSettings, *, environment: Mapping[str, str] | None = None, **given: Any
) -> Iterator[GatewayProcess]:
    """A gateway that owns all partitions; drained at the end, and its exit code checked.

    `given` are settings of the gateway by their names; `environment` is added to its environment.
    """
    with running(GatewayProcess(settings, environment=environment, **given)) as process:
        process.wait_for_partitions()
        yield process


class SeriesTopics(Struct, frozen=True):
    """The topics that one series of gateways writes, and the ticks that it reads and shares with other series."""

    series: str
    ticks: str

    @property
    def topics(self) -> Topics:
        """By their roles."""
        own = {role: f"{self.series}.{role}" for role in TOPICS.by_role()}
        return Topics(**{**own, "ticks": self.ticks})

    @property
    def names(self) -> dict[str, str]:
        """Topic -> the desk's topic that it is like; the ticks too."""
        return dict(zip(self.topics.by_role().values(), TOPICS.by_role().values(), strict=True))

    def settings(self) -> dict[str, str]:
        """What tells a gateway to read and write there."""
        named = {f"{role}_topic": name for role, name in self.topics.by_role().items()}
        # Of the trail's own topics a gateway knows nothing.
        return {"group": self.series, **{n: named[n] for n in named if n in GatewaySettings.model_fields}}

    @property
    def decisions(self) -> str:
        """Where its decisions lie."""
        return self.topics.decisions

    @property
    def orders(self) -> str:
        """Where its orders and cancels lie."""
        return self.topics.orders

    @property
    def control(self) -> str:
        """Where its commands lie."""
        return self.topics.control

    @property
    def dead_letters(self) -> str:
        """Where its dead letters lie."""
        return self.topics.dead_letters


def series_gateway(settings: StackSettings, topics: SeriesTopics, name: str, **given: Any) -> GatewayProcess:
    """A gateway of a series, under a lasting name."""
    return GatewayProcess(
        settings,
        log_name=f"gateway-{topics.series}-{name}",
        port=free_ports(1)[0],
        instance=name,
        **{**topics.settings(), **given},
    )
