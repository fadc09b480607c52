"""Something that listens, or a sentence."""

from __future__ import annotations

import socket
from collections.abc import Callable

from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server

from trading.errors import ConfigurationError


def bind(host: str, port: int, way_out: str) -> socket.socket:
    """A socket that is bound there; 0 is any free port.

    Raises:
        ConfigurationError: it cannot be had; `way_out` says what chooses another.
    """
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((host, port))
    except OSError as error:
        made.close()
        raise ConfigurationError(
            f"port {port} on {host} cannot be had ({error.strerror}): choose another with {way_out}"
        ) from error
    return made


def own_registry() -> CollectorRegistry:
    """Of a process' own metrics: those that every process tells of itself (`process_*`) are there already."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    return registry


def serve_metrics(
    registry: CollectorRegistry, host: str, port: int, way_out: str
) -> tuple[int, Callable[[], None]]:
    """Answer at /metrics in a thread of its own; returns the port, and what ends it.

    Raises:
        ConfigurationError: the port cannot be had; `way_out` says what chooses another.
    """
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise ConfigurationError(
            f"metrics cannot listen on {host}:{port} ({error.strerror}): choose another with {way_out}"
        ) from error

    def close() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return int(server.server_address[1]), close
