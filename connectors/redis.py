"""Redis: connecting, and what its client raises as our errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from redis import Redis, RedisError
from redis.asyncio import Redis as AsyncRedis

from connectors.addresses import scrubbed, shown
from trading.errors import ConfigurationError, ServiceUnavailable

__all__ = ["Redis", "RedisError", "connect", "open_async_client", "open_client", "translated", "translating"]


def open_client(url: str, timeout_s: float = 1.0) -> Redis:
    """A client that connects when it is first asked, and waits for an answer so long at most.

    Raises ConfigurationError for what is no address, without its password.
    """
    try:
        return Redis.from_url(url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s)
    except ValueError as error:
        raise ConfigurationError(
            f"{shown(url)} is no address of Redis ({scrubbed(str(error), url)}): expected "
            "redis://:PASSWORD@HOST:PORT/NUMBER, with / # ? @ of a password as %2F %23 %3F %40"
        ) from None


def open_async_client(url: str, timeout_s: float) -> AsyncRedis:
    """The same for an event loop; an answer that does not come in time is a RedisError. Raises as `open_client`."""
    open_client(url).close()
    return AsyncRedis.from_url(url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s)


def connect(url: str) -> Redis:
    """A client of a server that answers. Raises ServiceUnavailable, without the password of the address."""
    client = open_client(url)
    try:
        client.ping()
    except (RedisError, ValueError) as error:
        what = f"Redis at {shown(url)} does not answer: start it with `ultrathink stack up`"
        raise ServiceUnavailable(f"{what} ({scrubbed(str(error)[:200], url)})") from None
    return client


def translated(error: RedisError | OSError, what: str) -> ServiceUnavailable:
    """Our error: whatever Redis refuses may be granted later, by the same server or by its successor."""
    return ServiceUnavailable(f"{what} ({str(error)[:200]})")


@contextmanager
def translating(what: str) -> Iterator[None]:
    """Raise ServiceUnavailable for whatever Redis's client raises within."""
    try:
        yield
    except RedisError as error:
        raise translated(error, what) from error
