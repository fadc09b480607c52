"""Which desk is loaded: the one that runs, or one of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from msgspec import Struct

from loadtest.errors import InvalidRun
from loadtest.measuring.preflight import only_loopback
from loadtest.open_loop.child_process import brokers_here
from stack.processes.gateway import running_gateway
from stack.servers.ports import listener
from stack.servers.settings import StackSettings, load
from stack.supervision.status import read_status
from stack.workflows.sandbox import sandbox
from trading.errors import ServiceUnavailable


class LoadTarget(Struct, frozen=True):
    """Addresses, and the pids of the servers that can be watched, by name."""

    bootstrap: str
    triton_grpc: str
    triton_http: str
    servers: dict[str, int]


def place_of(settings: StackSettings) -> LoadTarget:
    """A stack of this machine."""
    status = read_status(settings.absolute_home)
    servers = {s.name: s.process.pid for s in status.services if s.process is not None} if status else {}
    deciding = listener(settings.ports.gateway_metrics)
    if deciding is not None:
        servers["gateway"] = deciding.pid
    return LoadTarget(
        settings.kafka_bootstrap,
        settings.triton_grpc,
        f"http://127.0.0.1:{settings.ports.triton_http}",
        servers,
    )


@contextmanager
def embedded(
    show: Callable[[str], None], *, brokers: int = 1, gateway_settings: Mapping[str, Any] | None = None
) -> Iterator[LoadTarget]:
    """A stack of its own with a gateway that decides; everything is taken down at the end.

    Raises:
        InvalidRun: it does not come up.
    """
    with tempfile.TemporaryDirectory(prefix="ultrathink-loadtest-") as folder:
        try:
            with sandbox(Path(folder) / "home", brokers=brokers, show=show) as settings:
                show("starting the gateway")
                with running_gateway(settings, **dict(gateway_settings or {})):
                    yield place_of(settings)
        except ServiceUnavailable as error:
            raise InvalidRun(str(error)) from error


def running(bootstrap: str | None, *, allow_remote: bool, needs_gateway: bool) -> LoadTarget:
    """The stack that is up, or Kafka elsewhere.

    Raises:
        InvalidRun: the address is not on this machine, or nobody decides here.
    """
    found = place_of(load())
    if bootstrap is not None and bootstrap.replace("localhost", "127.0.0.1") != found.bootstrap:
        only_loopback(bootstrap, allow_remote=allow_remote)
        brokers_here(bootstrap, allow_remote=allow_remote)
        return LoadTarget(bootstrap, found.triton_grpc, found.triton_http, {})
    if needs_gateway and "gateway" not in found.servers:
        raise InvalidRun(
            "no gateway decides here: start `ultrathink stack up` and `ultrathink gateway run`, "
            "or let the test bring its own desk with --embedded"
        )
    return found
