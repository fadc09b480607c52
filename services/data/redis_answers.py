"""Answers in Redis."""

from __future__ import annotations

from connectors.redis import RedisError, open_async_client, translated

#: Longer than this an answer is quicker made anew.
PATIENCE_S = 0.05


class RedisAnswers:
    """Implements Remote."""

    def __init__(self, url: str) -> None:
        """Connects when it is first asked. Raises ConfigurationError for what is no address."""
        self._client = open_async_client(url, PATIENCE_S)

    async def get(self, key: bytes) -> bytes | None:
        """Raises ServiceUnavailable."""
        try:
            found = await self._client.get(key)
        except (RedisError, OSError) as error:
            raise translated(error, "answers cannot be read from Redis") from error
        return found if isinstance(found, bytes) else None

    async def set(self, key: bytes, value: bytes, seconds: int) -> None:
        """Raises ServiceUnavailable."""
        try:
            await self._client.set(key, value, ex=seconds)
        except (RedisError, OSError) as error:
            raise translated(error, "answers cannot be kept in Redis") from error
