"""What a predecessor has said already of orders that are read again: the broker keeps to its word."""

from __future__ import annotations

from connectors.kafka.client import KafkaException, TopicPartition
from connectors.kafka.errors import CONTROL_TIMEOUT_S, translated
from connectors.kafka.messages import as_bytes
from connectors.kafka.reading import bounds, read_to_end, reader
from trading.encoding import Records
from trading.errors import BadRecord
from trading.events import ExecutionReport, ReportKind

#: Clocks of who dates orders and reports may differ by so much.
MARGIN_MS = 60_000
_reports = Records(ExecutionReport)


def answered(bootstrap: str, orders: str, fills: str, partition: int, since: int) -> dict[str, bool]:
    """Of the orders from `since` on that have reports, by id: whether they were taken, rather than rejected.

    Raises ServiceUnavailable.
    """
    low, high = bounds(bootstrap, orders, partition)
    first = next(
        (m for some in read_to_end(bootstrap, orders, partition, max(low, since), high) for m in some), None
    )
    if first is None:
        return {}
    found: dict[str, bool] = {}
    begin = offset_at(bootstrap, fills, partition, int(first.timestamp()[1]) - MARGIN_MS)
    for messages in read_to_end(bootstrap, fills, partition, begin):
        for message in messages:
            try:
                report = _reports.read(as_bytes(message.value()))
            except BadRecord:
                continue
            found.setdefault(report.order_id, report.kind is not ReportKind.REJECT)
    return found


def offset_at(bootstrap: str, topic: str, partition: int, time_ms: int) -> int:
    """The first offset at or after a time; the end where there is none. Raises ServiceUnavailable."""
    consumer = reader(bootstrap)
    try:
        (found,) = consumer.offsets_for_times(
            [TopicPartition(topic, partition, max(0, time_ms))], CONTROL_TIMEOUT_S
        )
    except KafkaException as error:
        raise translated(error, f"{topic}[{partition}] cannot be read") from error
    finally:
        consumer.close()
    return int(found.offset) if found.offset >= 0 else bounds(bootstrap, topic, partition)[1]
