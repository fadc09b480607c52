"""Redis by the names of redis_exporter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from connectors.redis import open_client, translating

GAUGES = {
    "redis_uptime_in_seconds": ("uptime_in_seconds", "Since it started."),
    "redis_connected_clients": ("connected_clients", "Clients."),
    "redis_memory_used_bytes": ("used_memory", "Memory that its data takes."),
    "redis_memory_max_bytes": ("maxmemory", "Memory that its data may take; 0 is any."),
    "redis_rejected_connections": ("rejected_connections", "Connections that it had no room for."),
    "redis_aof_last_write_status": ("aof_last_write_status", "1 where its log was written the last time."),
}
COUNTERS = {
    "redis_commands_processed": ("total_commands_processed", "Commands."),
    "redis_evicted_keys": ("evicted_keys", "Keys that were thrown away for want of memory."),
}


class RedisSource:
    """Implements Source."""

    name = "redis"

    def __init__(self, url: str) -> None:
        """Nothing is connected yet."""
        self._client = open_client(url)

    def look(self) -> Sequence[Metric]:
        """See Source. Raises ServiceUnavailable."""
        with translating("Redis cannot be looked at"):
            info = self._client.info()
        return families(info)

    def close(self) -> None:
        """See Source."""
        self._client.close()


def families(info: Mapping[str, Any]) -> list[Metric]:
    """What is shown of its INFO; what it does not tell is left out."""
    found: list[Metric] = [GaugeMetricFamily("redis_up", "1 where it answers.", value=1.0)]
    for name, (field, text) in GAUGES.items():
        if field in info:
            found.append(GaugeMetricFamily(name, text, value=number(info[field])))
    for name, (field, text) in COUNTERS.items():
        if field in info:
            found.append(CounterMetricFamily(name, text, value=number(info[field])))
    return found


def number(value: object) -> float:
    """A figure, or whether it says that all is well."""
    return float(value == "ok") if isinstance(value, str) else float(str(value))
