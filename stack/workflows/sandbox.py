"""A desk of its own, for load tests and benchmarks: servers up, models served, gateways with any settings."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil

from exporters.export import Options, export_pipeline
from exporters.release.releases import Releases
from exporters.release.triton_client import TritonServer
from exporters.repository.repository import ModelRepository
from exporters.target import profiles
from stack.cli.top import Scrape
from stack.demo.run import running, wait_for_partitions
from stack.servers.lifecycle import down, up
from stack.servers.settings import Ports, StackSettings
from stack.workflows.training.settings import TrainRequest
from stack.workflows.training.train import train

MODELS = ("trading_decision", "trading_decision_fused")
PREFIX = "ULTRATHINK_GATEWAY_"


@contextmanager
def desk(
    home: Path, *, brokers: int = 1, partitions: int = 4, show: Callable[[str], None] = lambda _: None
) -> Iterator[StackSettings]:
    """Everything a gateway needs, the ensemble and its fused variant released; taken down at the end."""
    settings = StackSettings(
        home=home, brokers=brokers, partitions=partitions, ports=Ports.automatic(), model_repository=home / "models"
    )
    with environment(ULTRATHINK_HOME=str(home)):
        show("starting the servers")
        up(settings, lambda _: None)
        try:
            show("training")
            train(TrainRequest(("simulate:regimes?ticks=20000&symbols=4",)), lambda *_: None)
            show("exporting and releasing")
            serve(settings)
            yield settings
        finally:
            show("stopping the servers")
            down(home)


def serve(settings: StackSettings) -> None:
    """Export the pipeline and its fused variant, and release both."""
    gpu, container = profiles.find_gpu(profiles.DEFAULT_GPU), profiles.find(profiles.DEFAULT_CONTAINER)
    repository, triton = ModelRepository(settings.model_repository), TritonServer(settings.triton_grpc)
    try:
        options = Options(settings.mlflow_uri, container, gpu, "challenger")
        published = export_pipeline(MODELS[0], options, repository, lambda _: None, fuse=True)
        for one in published:
            if one.name in MODELS:
                Releases(repository, triton, gpu, lambda _: None).release(one.name, one.version)
    finally:
        triton.close()


@contextmanager
def environment(**values: str) -> Iterator[None]:
    """Variables of this process and of those it starts, as they were before at the end."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


class Running:
    """A gateway that runs."""

    def __init__(self, settings: StackSettings, pid: int) -> None:
        self._address = f"http://127.0.0.1:{settings.ports.gateway_metrics}/metrics"
        self.process = psutil.Process(pid)

    def scrape(self) -> Scrape:
        """Its metrics now."""
        return Scrape.of(httpx.get(self._address, timeout=5.0).text, {})

    def decided(self) -> float:
        """Decisions published so far."""
        found = re.search(r"^gateway_ticks_total (\S+)", httpx.get(self._address, timeout=5.0).text, re.MULTILINE)
        return float(found[1]) if found else 0.0


@contextmanager
def gateway(
    settings: StackSettings, *, environment_of: Mapping[str, str] | None = None, **given: Any
) -> Iterator[Running]:
    """A gateway with some settings, all partitions its own; `environment_of` is added to its environment."""
    variables = {PREFIX + name.upper(): str(value) for name, value in given.items()}
    with running(settings, "gateway", {**variables, **(environment_of or {})}) as (process, log):
        wait_for_partitions(settings, process, log)
        yield Running(settings, process.pid)


def below(before: Scrape, now: Scrape, name: str, bound_s: float) -> float:
    """The share of what was observed between two scrapes that is at most `bound_s`, a bucket's bound."""
    at = (("le", str(bound_s)),)
    total = now.value(f"{name}_count") - before.value(f"{name}_count")
    grown = now.samples[f"{name}_bucket", at] - before.samples[f"{name}_bucket", at]
    return grown / max(1.0, total)


def rate_between(running: Running, total: int, timeout_s: float = 300.0) -> float:
    """Decisions a second while a new gateway works off a backlog of `total`, without its first and last tenth."""
    marks: list[tuple[float, float]] = []
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        done = running.decided()
        if done >= 0.1 * total:
            marks.append((time.perf_counter(), done))
        if done >= 0.9 * total:
            break
        time.sleep(0.05)
    (t0, n0), (t1, n1) = marks[0], marks[-1]
    return (n1 - n0) / max(1e-9, t1 - t0)
