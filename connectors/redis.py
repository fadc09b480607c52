"""Redis: connecting, and what its client raises as our errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from redis import Redis, RedisError

from trading.errors import ConfigurationError, ServiceUnavailable

__all__ = ["Redis", "RedisError", "connect", "open_client", "translated", "translating"]


def open_client(url: str, timeout_s: float = 1.0) -> Redis:
    """A client that connects when it is first asked, and waits for an answer so long at most.

    Raises ConfigurationError for what is no address, without its password.
    """
    try:
        return Redis.from_url(url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s)
    except ValueError as error:
        raise ConfigurationError(f"{url.rpartition('@')[2]} is no address of Redis: {error}") from None


def connect(url: str) -> Redis:
    """A client of a server that answers. Raises ServiceUnavailable, without the password of the address."""
    client = open_client(url)
    with translating(f"Redis at {url.rpartition('@')[2]} does not answer: start it with `ultrathink stack up`"):
        client.ping()
    return client


def translated(error: RedisError, what: str) -> ServiceUnavailable:
    """Our error: whatever Redis refuses may be granted later, by the same server or by its successor."""
    return ServiceUnavailable(f"{what} ({str(error)[:200]})")


@contextmanager
def translating(what: str) -> Iterator[None]:
    """Raise ServiceUnavailable for whatever Redis's client raises within."""
    try:
        yield
    except RedisError as error:
        raise translated(error, what) from error
