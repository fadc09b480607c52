"""What became of each stop, from the logs alone: who gave it, what worked then, and how soon that had ended."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from msgspec import Struct

from connectors.kafka.cluster import require
from connectors.kafka.messages import as_bytes
from connectors.kafka.reading import offset_at, read_to_end
from connectors.kafka.topics import Topics
from gateway.control.topic import all_commands
from trading.control import to_state
from trading.encoding import Records
from trading.errors import BadRecord
from trading.events import CancelOrder, Command, ExecutionReport, ReportKind, read_order
from trading.portfolio.working_orders import NOTHING
from trading.risk.trading_state import HALTED, SEVERITY, TradingState

MS = 1_000_000
#: The clocks of whoever stops, decides and reports may differ by so much.
MARGIN_MS = 60_000
T = TypeVar("T")
_reports = Records(ExecutionReport)


class StopRecord(Struct, frozen=True):
    """What became of a stop. Times are wall times of whoever wrote the record, lengths in milliseconds.

    Attributes:
        at_ns: when the desk was told; of a stop that nobody told the control topic, when the first cancel was sent.
        state, reason, by: what it was told.
        orders: how many worked, and were to be cancelled.
        cancelled: of them, ended by that.
        filled, rejected: of them, ended otherwise before the cancel came.
        open: of them, those that no report has ended.
        asked_ms: from the stop to the first cancel; None where nothing worked.
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
    commands: Iterable[Command], cancels: Iterable[CancelOrder], reports: Iterable[ExecutionReport]
) -> list[StopRecord]:
    """What became of each halt and kill, oldest first.

    Args:
        commands: of the control topic, in order.
        cancels: of the orders topic.
        reports: of the broker.
    """
    told = [command for command in commands if command.kind == "trading_state"]
    ends: dict[str, ExecutionReport] = {}
    for report in reports:
        if report.kind is not ReportKind.FILL or abs(report.left) < NOTHING:
            # A report that comes again says what the first did.
            ends.setdefault(report.order_id, report)
    asked: dict[int, dict[str, CancelOrder]] = {k: {} for k, c in enumerate(told) if is_stop(c)}
    untold: dict[int, StopRecord] = {}
    for cancel in sorted(cancels, key=lambda c: c.sent_ns):
        place = max((k for k, c in enumerate(told) if c.at_ns <= cancel.sent_ns), default=-1)
        if place not in asked:
            asked[place] = {}
            untold[place] = StopRecord(cancel.sent_ns, cancel.state, "only the gateways know why", "")
        # One that is asked again is still one order.
        asked[place].setdefault(cancel.order_id, cancel)
    found = []
    for place, of_stop in sorted(asked.items()):
        command = told[place] if place >= 0 else None
        record = untold.get(place)
        if record is None and command is not None:
            record = StopRecord(command.at_ns, to_state(command.value), command.reason, command.by)
        if record is not None:
            found.append(filled_in(record, list(of_stop.values()), ends))
    return sorted(found, key=lambda r: r.at_ns)


def filled_in(record: StopRecord, cancels: list[CancelOrder], ends: dict[str, ExecutionReport]) -> StopRecord:
    """A stop with what its cancels led to."""
    if not cancels:
        return record
    ended = [ends[c.order_id] for c in cancels if c.order_id in ends]
    kinds = [r.kind for r in ended]
    still = len(cancels) - len(ended)
    return StopRecord(
        record.at_ns, record.state, record.reason, record.by,
        orders=len(cancels),
        cancelled=kinds.count(ReportKind.CANCEL),
        filled=kinds.count(ReportKind.FILL),
        rejected=kinds.count(ReportKind.REJECT),
        open=still,
        asked_ms=(min(c.sent_ns for c in cancels) - record.at_ns) / MS,
        ended_ms=None if still else (max(r.at_ns for r in ended) - record.at_ns) / MS,
    )  # fmt: skip


def is_stop(command: Command) -> bool:
    """Whether it halts or kills."""
    return command.kind == "trading_state" and SEVERITY[to_state(command.value)] >= HALTED


def read_stops(bootstrap: str, topics: Topics, most: int) -> list[StopRecord]:
    """The newest stops, oldest of them first. Raises ServiceUnavailable."""
    commands = list(all_commands(bootstrap, topics.control))
    stops = [k for k, command in enumerate(commands) if is_stop(command)][-most:]
    if not stops:
        return []
    recent = commands[stops[0] :]
    since_ms = min(command.at_ns for command in recent) // MS - MARGIN_MS
    cancels = [
        asked
        for asked in records_since(bootstrap, topics.orders, since_ms, read_order)
        if isinstance(asked, CancelOrder)
    ]
    return stop_records(recent, cancels, records_since(bootstrap, topics.fills, since_ms, _reports.read))[-most:]


def records_since(bootstrap: str, topic: str, since_ms: int, read: Callable[[bytes | None], T]) -> Iterator[T]:
    """The records of all partitions from a time on, but what is none. Raises ServiceUnavailable."""
    for partition in require(bootstrap, topic):
        for messages in read_to_end(bootstrap, topic, partition, offset_at(bootstrap, topic, partition, since_ms)):
            for message in messages:
                try:
                    yield read(as_bytes(message.value()))
                except BadRecord:
                    continue
