"""What became of each stop, from the logs alone: who gave it, what worked then, and how soon that had ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from msgspec import Struct, structs

from connectors.kafka.cluster import require
from connectors.kafka.messages import MS, as_bytes
from connectors.kafka.reading import read_to_end
from connectors.kafka.topics import Topics
from connectors.kafka.watermarks import offset_at
from gateway.control.topic import all_commands
from trading.control import to_state
from trading.encoding import Records
from trading.errors import BadRecord
from trading.events import CancelOrder, Command, ExecutionReport, ReportKind, read_order
from trading.portfolio.working_orders import NOTHING
from trading.risk.trading_state import HALTED, SEVERITY, TradingState

#: The clocks of whoever stops, decides and reports may differ by so much.
MARGIN_NS = 60_000 * MS
#: Without a stop in the control topic, cancels are looked for so far back.
WEEK_MS = 7 * 86_400_000
T = TypeVar("T")
_reports = Records(ExecutionReport)


class OrderEnd(Struct, frozen=True):
    """How and when the broker ended an order; the time is that of the record."""

    kind: ReportKind
    at_ns: int


class StopRecord(Struct, frozen=True):
    """What became of a stop. Times are wall times of whoever wrote the record, lengths in milliseconds.

    Attributes:
        at_ns: when the desk was told; of a stop that nobody told the control topic, when the first cancel was sent.
        state, reason, by: what it was told.
        orders: how many worked, and were to be cancelled; those of a stop before that were still open too.
        cancelled: of them, ended by that.
        filled, rejected: of them, ended otherwise before the cancel came.
        open: of them, those that no report has ended.
        asked_ms: from the stop to the first cancel, negative where an earlier stop had asked; None where nothing
            worked.
        ended_ms: from the stop to the last report; None where nothing worked, or something is open.
    """

    at_ns: int
    state: TradingState
    reason: str
    by: str
    orders: int = 0
    cancelled: int = 0
    filled: int = 0
    rejected: int = 0
    open: int = 0
    asked_ms: float | None = None
    ended_ms: float | None = None


def stop_records(
    commands: Iterable[Command], cancels: Iterable[CancelOrder], ends: dict[str, OrderEnd]
) -> list[StopRecord]:
    """What became of each halt and kill, oldest first.

    A cancel belongs to the newest stop before it of its own state, or to the next one within what clocks may differ
    by; one that has neither makes a stop of its own, which only the gateways know of.

    Args:
        commands: that set the trading state, in order.
        cancels: of the orders topic.
        ends: of the broker, by order.
    """
    told = list(commands)
    stops = [
        StopRecord(c.at_ns, to_state(c.value), c.reason, c.by)
        for c in told
        if SEVERITY[to_state(c.value)] >= HALTED
    ]
    resumed = [c.at_ns for c in told if to_state(c.value) is TradingState.ACTIVE]
    asked: list[dict[str, CancelOrder]] = [{} for _ in stops]
    for cancel in sorted(cancels, key=lambda c: c.sent_ns):
        place = place_of(cancel, stops, resumed)
        if place is None:
            place = len(stops)
            stops.append(StopRecord(cancel.sent_ns, cancel.state, "only the gateways know why", ""))
            asked.append({})
        # One that is asked again is still one order.
        asked[place].setdefault(cancel.order_id, cancel)
    order = sorted(range(len(stops)), key=lambda k: stops[k].at_ns)
    found, carried = [], dict[str, CancelOrder]()
    before_ns = 0
    for k in order:
        stop = stops[k]
        if any(before_ns < at_ns <= stop.at_ns for at_ns in resumed):
            carried = {}
        before_ns = stop.at_ns
        carried = {**carried, **{name: one for name, one in asked[k].items() if name not in carried}}
        # What had ended before it did not work then: a book learns of it with its next tick.
        carried = {name: one for name, one in carried.items() if name not in ends or ends[name].at_ns >= stop.at_ns}
        found.append(filled_in(stop, carried, ends))
    return found


def place_of(cancel: CancelOrder, stops: list[StopRecord], resumed: list[int]) -> int | None:
    """The stop that a cancel belongs to."""
    before = [k for k, stop in enumerate(stops) if stop.state is cancel.state and stop.at_ns <= cancel.sent_ns]
    if before:
        newest = max(before, key=lambda k: stops[k].at_ns)
        if not any(stops[newest].at_ns < at_ns <= cancel.sent_ns - MARGIN_NS for at_ns in resumed):
            return newest
    after = [
        k
        for k, stop in enumerate(stops)
        if stop.state is cancel.state and cancel.sent_ns < stop.at_ns <= cancel.sent_ns + MARGIN_NS
    ]
    return min(after, key=lambda k: stops[k].at_ns) if after else None


def filled_in(stop: StopRecord, cancels: dict[str, CancelOrder], ends: dict[str, OrderEnd]) -> StopRecord:
    """A stop with what its cancels led to."""
    if not cancels:
        return stop
    ended = [ends[name] for name in cancels if name in ends]
    kinds = [end.kind for end in ended]
    still = len(cancels) - len(ended)
    return structs.replace(
        stop,
        orders=len(cancels),
        cancelled=kinds.count(ReportKind.CANCEL),
        filled=kinds.count(ReportKind.FILL),
        rejected=kinds.count(ReportKind.REJECT),
        open=still,
        asked_ms=(min(c.sent_ns for c in cancels.values()) - stop.at_ns) / MS,
        ended_ms=None if still else (max(end.at_ns for end in ended) - stop.at_ns) / MS,
    )


def ends_of(reports: Iterable[tuple[int, ExecutionReport]]) -> dict[str, OrderEnd]:
    """How each order ended: the first report that leaves nothing; the times are those of the records."""
    found: dict[str, OrderEnd] = {}
    for at_ns, report in reports:
        if report.kind is not ReportKind.FILL or abs(report.left) < NOTHING:
            found.setdefault(report.order_id, OrderEnd(report.kind, at_ns))
    return found


def read_stops(bootstrap: str, topics: Topics, most: int) -> list[StopRecord]:
    """The newest stops, oldest of them first. Raises ServiceUnavailable."""
    told = [command for command in all_commands(bootstrap, topics.control) if command.kind == "trading_state"]
    stops = [k for k, command in enumerate(told) if SEVERITY[to_state(command.value)] >= HALTED][-most:]
    recent = told[stops[0] :] if stops else []
    since_ms = time.time_ns() // MS - WEEK_MS
    if recent:
        since_ms = (min(command.at_ns for command in recent) - MARGIN_NS) // MS
    cancels = [
        asked
        for _, asked in records_since(bootstrap, topics.orders, since_ms, read_order)
        if isinstance(asked, CancelOrder)
    ]
    ends = ends_of(records_since(bootstrap, topics.fills, since_ms, _reports.read))
    if any(cancel.order_id not in ends for cancel in cancels):
        # It may have ended long before: the gateway asks for what its book has not heard of.
        ends = ends_of(records_since(bootstrap, topics.fills, 0, _reports.read))
    return stop_records(recent, cancels, ends)[-most:]


def records_since(
    bootstrap: str, topic: str, since_ms: int, read: Callable[[bytes | None], T]
) -> Iterator[tuple[int, T]]:
    """The records of all partitions from a time on, but what is none, each with its time in ns.

    Raises ServiceUnavailable.
    """
    for partition in require(bootstrap, topic):
        for messages in read_to_end(bootstrap, topic, partition, offset_at(bootstrap, topic, partition, since_ms)):
            for message in messages:
                try:
                    found = read(as_bytes(message.value()))
                except BadRecord:
                    continue
                yield message.timestamp()[1] * MS, found
