"""What a predecessor has said already of orders that are read again: the broker keeps to its word."""

from __future__ import annotations

from typing import NamedTuple

from connectors.kafka.messages import as_bytes
from connectors.kafka.reading import read_to_end
from connectors.kafka.watermarks import bounds, offset_at
from trading.encoding import Records
from trading.errors import BadRecord
from trading.events import ExecutionReport, ReportKind

#: Clocks of who dates orders and reports may differ by so much.
MARGIN_MS = 60_000
_reports = Records(ExecutionReport)


class Said(NamedTuple):
    """How many reports of an order there are, and the signed quantity that they leave working; 0 ends it."""

    reports: int
    left: float


NOTHING_SAID = Said(0, 0.0)


def answered(bootstrap: str, orders: str, fills: str, partition: int, since: int) -> dict[str, Said]:
    """Of the orders from `since` on that have reports, by id.

    Raises ServiceUnavailable.
    """
    low, high = bounds(bootstrap, orders, partition)
    first = next(
        (m for some in read_to_end(bootstrap, orders, partition, max(low, since), high) for m in some), None
    )
    if first is None:
        return {}
    found: dict[str, Said] = {}
    begin = offset_at(bootstrap, fills, partition, int(first.timestamp()[1]) - MARGIN_MS)
    for messages in read_to_end(bootstrap, fills, partition, begin):
        for message in messages:
            try:
                report = _reports.read(as_bytes(message.value()))
            except BadRecord:
                continue
            left = report.left if report.kind is ReportKind.FILL else 0.0
            found[report.order_id] = max(
                found.get(report.order_id, NOTHING_SAID),
                Said(report.sequence + 1, left),
                key=lambda said: said.reports,
            )
    return found
