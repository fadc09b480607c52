"""Snapshots a second to Redis, and now and then as records for Kafka; encoded off the live path."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import structlog

from connectors.redis import RedisError, open_client
from gateway.ports import Stream
from gateway.workers import Worker
from trading.errors import ServiceUnavailable
from trading.state.codec import encode_snapshot, to_chunks
from trading.state.partition import Snapshot

log = structlog.get_logger()


class RedisSnapshots:
    """Where the newest snapshots lie."""

    def __init__(self, url: str, group: str) -> None:
        self._client = open_client(url, 1.0)
        self._group = group

    def get(self, partition: int) -> bytes | None:
        """The encoded snapshot; None where there is none, or nobody answers."""
        try:
            return self.read(partition)
        except ServiceUnavailable as error:
            log.warning("snapshots cannot be read from Redis", reason=str(error)[:200])
            return None

    def read(self, partition: int) -> bytes | None:
        """As `get`. Raises ServiceUnavailable where nobody answers."""
        try:
            found = self._client.get(self._key(partition))
        except RedisError as error:
            raise ServiceUnavailable(f"Redis does not tell its snapshots: {error}") from error
        return found if isinstance(found, bytes) else None

    def set(self, partition: int, payload: bytes) -> None:
        """Raises RedisError."""
        self._client.set(self._key(partition), payload)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _key(self, partition: int) -> str:
        return f"ultrathink:snapshot:{self._group}:{partition}"


class SnapshotKeeper:
    """Implements SnapshotStore."""

    def __init__(
        self,
        fast: RedisSnapshots,
        log_name: str,
        every_s: float,
        durable_every_s: float,
        written: Callable[[str, int], None] = lambda _where, _bytes: None,
    ) -> None:
        """Start the writer.

        Args:
            fast: Redis.
            log_name: what the snapshots say that they are of.
            every_s: between two snapshots of a partition.
            durable_every_s: between two that go to Kafka as well.
            written: told where ("redis", "kafka") and how many bytes.
        """
        self._fast, self._log_name, self._written = fast, log_name, written
        self._every_s, self._durable_every_s = every_s, durable_every_s
        self._due: dict[int, float] = {}
        self._durable_due: dict[int, float] = {}
        # One waiting snapshot a partition: a newer one replaces it, so nothing grows.
        self._waiting: dict[int, Snapshot] = {}
        self._records: dict[int, list[tuple[Stream, bytes | None, bytes]]] = {}
        self._lock, self._wake = threading.Lock(), threading.Event()
        self._closing = False
        self.worker = Worker("snapshots", self._write_all)
        self.worker.start()

    def due(self, partition: int) -> bool:
        """Once an interval."""
        now = time.monotonic()
        if now < self._due.get(partition, 0.0):
            return False
        self._due[partition] = now + self._every_s
        return True

    def offer(self, snapshot: Snapshot) -> None:
        """Leave it to the writer."""
        with self._lock:
            self._waiting[snapshot.partition] = snapshot
        self._wake.set()

    def take_records(self, partition: int) -> list[tuple[Stream, bytes | None, bytes]]:
        """What goes with the next decisions."""
        return self._records.pop(partition, []) if self._records else []

    def forget(self, partition: int) -> None:
        """Another gateway keeps it now."""
        with self._lock:
            for known in (self._waiting, self._records, self._due, self._durable_due):
                known.pop(partition, None)

    def close(self) -> None:
        """Write what waits, and stop."""
        self._closing = True
        self._wake.set()
        self.worker.join(2.0)
        self._fast.close()

    def _write_all(self) -> None:
        while not self._closing or self._waiting:
            self._wake.wait()
            self._wake.clear()
            while (snapshot := self._next()) is not None:
                self._write(snapshot)

    def _next(self) -> Snapshot | None:
        with self._lock:
            return self._waiting.pop(next(iter(self._waiting))) if self._waiting else None

    def _write(self, snapshot: Snapshot) -> None:
        partition = snapshot.partition
        payload = encode_snapshot(snapshot, self._log_name)
        now = time.monotonic()
        # The first at once: until there is one, nothing durable says whose log these decisions are of.
        if now >= self._durable_due.get(partition, 0.0):
            self._durable_due[partition] = now + self._durable_every_s
            chunks = to_chunks(payload, snapshot.offset)
            self._records[partition] = [(Stream.SNAPSHOTS, key, value) for key, value in chunks]
            self._written("kafka", len(payload))
        try:
            self._fast.set(partition, payload)
        except RedisError as error:
            log.warning("snapshot not written to Redis", partition=partition, reason=str(error)[:200])
        else:
            self._written("redis", len(payload))
