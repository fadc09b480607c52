"""A stack of its own, for load tests and benchmarks: servers up, models served, taken down at the end."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from exporters import profiles
from exporters.export import export_pipeline
from exporters.options import Options
from exporters.release.releases import Releases
from exporters.release.triton_client import TritonServer
from exporters.repository.repository import ModelRepository
from stack.processes.gateway import GatewayProcess
from stack.processes.scrape import Scrape
from stack.servers.given import Beside
from stack.servers.settings import ServerPorts, StackSettings
from stack.servers.torchserve import repository_of
from stack.supervision.lifecycle import down, up
from stack.workflows.torchserve import place
from stack.workflows.training.settings import TrainRequest
from stack.workflows.training.train import train

MODELS = ("trading_decision", "trading_decision_fused")


@contextmanager
def sandbox(
    home: Path,
    *,
    brokers: int = 1,
    partitions: int = 4,
    beside: tuple[Beside, ...] = (),
    show: Callable[[str], None] = lambda _: None,
) -> Iterator[StackSettings]:
    """Everything a gateway needs, the ensemble and its fused variant released; taken down at the end.

    `beside` are servers beside the usual; what TorchServe serves is the pipeline as one.
    """
    settings = StackSettings(
        profile="servers",
        home=home,
        brokers=brokers,
        partitions=partitions,
        ports=ServerPorts.automatic(),
        model_repository=home / "models",
        beside=beside,
    )
    with environment(ULTRATHINK_HOME=str(home)):
        show("starting the servers")
        up(settings, lambda _: None)
        try:
            show("training")
            train(TrainRequest(("simulate:regimes?ticks=20000&symbols=4",)), lambda *_: None)
            show("exporting and releasing")
            serve(settings)
            if "torchserve" in beside:
                serve_by_torchserve(settings)
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


def serve_by_torchserve(settings: StackSettings) -> None:
    """Export the pipeline as one TorchScript, and release it on TorchServe."""
    gpu, container = profiles.find_gpu(profiles.DEFAULT_GPU), profiles.find(profiles.DEFAULT_CONTAINER)
    repository = repository_of(settings)
    with closing(place().connect(repository)) as server:
        options = Options(settings.mlflow_uri, container, gpu, "challenger", format="torchscript")
        for one in export_pipeline(MODELS[0], options, repository, lambda _: None, alone=True):
            Releases(repository, server, gpu, lambda _: None).release(one.name, one.version)


def below(before: Scrape, now: Scrape, name: str, bound_s: float) -> float:
    """The share of what was observed between two scrapes that is at most `bound_s`, a bucket's bound."""
    at = (("le", str(bound_s)),)
    total = now.value(f"{name}_count") - before.value(f"{name}_count")
    grown = now.samples[f"{name}_bucket", at] - before.samples[f"{name}_bucket", at]
    return grown / max(1.0, total)


def rate_between(running: GatewayProcess, total: int, timeout_s: float = 300.0) -> float:
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
