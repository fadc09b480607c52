"""A record's time and the columns that it is searched by, read from its own bytes, a function a kind of record.

Each raises BadRecord for bytes that are no record of its kind.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec import Struct

from services.forensics.records import Record
from trading.encoding import Int64, Number, Records
from trading.errors import BadRecord

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: Of a text to search by: an index holds no more, and the whole lies in the record.
MOST_TEXT = 500
#: What a record's own time may be for PostgreSQL and for people; others are filed under 1970.
FIRST_MS, LAST_MS = 0, 9_000_000_000_000

Values = tuple[Any, ...]


class _Rule(Struct, gc=False):
    rule: str
    passed: bool


class _Verdict(Struct, gc=False):
    outcome: str
    results: list[_Rule]


class _Stages(Struct, gc=False):
    queue_us: float
    features_us: float
    inference_us: float
    decide_us: float


class _Decision(Struct, gc=False):
    decision_id: str
    symbol: str
    event_time_ns: Int64
    action: str
    reason: str
    quantity: Number
    reference_price: Number | None
    mid_price: Number | None
    position_before: Number
    position_after: Number
    target_position: Number | None
    model_name: str
    model_version: str
    variant: str
    trading_state: str
    verdict: _Verdict | None
    stages: _Stages
    decided_at_ns: Int64
    trace_id: str = ""
    limits_version: str = ""
    experiment: str = ""
    assigned: str = ""
    fallback: str = ""


class _Order(Struct, gc=False):
    order_id: str
    symbol: str
    sent_ns: Int64
    account: str
    strategy: str
    kind: str = "new"
    event_time_ns: Int64 = 0
    quantity: Number | None = None
    price: Number | None = None
    left: Number | None = None
    trace_id: str = ""


class _Fill(Struct, gc=False):
    order_id: str
    symbol: str
    sequence: Int64
    kind: str
    quantity: Number
    price: Number
    fee: Number
    left: Number
    at_ns: Int64
    reason: str = ""


class _Letter(Struct, gc=False):
    topic: str
    partition: Int64
    offset: Int64
    reason: str
    trace_id: str = ""


class _Command(Struct, gc=False):
    kind: str
    value: str
    reason: str
    by: str
    at_ns: Int64


class _Serving(Struct, gc=False):
    server: str


class _Start(Struct, gc=False):
    event: str
    instance: str
    at_ns: Int64
    model_name: str
    model_version: str
    serving: _Serving
    account: str
    strategy: str
    decisions_topic_id: str


class _Release(Struct, gc=False):
    id: str
    step: str
    action: str
    model: str
    version: Int64
    time: datetime
    user: str
    reason: str = ""


class _Experiment(Struct, gc=False):
    experiment: str
    event: str
    at_ns: Int64
    by: str = ""
    reason: str = ""


_decisions, _orders, _fills, _letters = Records(_Decision), Records(_Order), Records(_Fill), Records(_Letter)
_commands, _releases, _experiments = Records(_Command), Records(_Release), Records(_Experiment)
_starts = Records(_Start)


def text(value: str) -> str:
    """As PostgreSQL can keep and index it: without NUL, and no longer than is searched by."""
    return (value.replace("\0", "\ufffd") if "\0" in value else value)[:MOST_TEXT]


def to_time(time_ns: int) -> datetime:
    """PostgreSQL's resolution is the microsecond; the record keeps the nanoseconds."""
    return EPOCH + timedelta(microseconds=time_ns // 1000)


def own_time(record: Record) -> datetime:
    """When the record says that it was sent or appended; 1970 for what cannot be."""
    known = record.timestamp_type and FIRST_MS <= record.timestamp_ms < LAST_MS
    return EPOCH + timedelta(milliseconds=record.timestamp_ms) if known else EPOCH


def read_decision(record: Record) -> tuple[datetime, Values]:
    """Of a decision."""
    d = _decisions.read(record.value)
    outcome, broken = None, None
    if d.verdict is not None:
        outcome = text(d.verdict.outcome)
        broken = [text(r.rule) for r in d.verdict.results if not r.passed]
    s = d.stages
    return to_time(d.event_time_ns), (
        text(d.decision_id), text(d.symbol), text(d.action), text(d.reason), d.quantity, d.reference_price,
        d.mid_price, d.position_before, d.position_after, d.target_position, text(d.model_name),
        text(d.model_version), text(d.variant), text(d.trading_state), text(d.limits_version), outcome, broken,
        to_time(d.decided_at_ns), s.queue_us + s.features_us + s.inference_us + s.decide_us, text(d.trace_id),
        # Of none there is none: so it is in what was stored before there were these columns.
        text(d.experiment) or None, text(d.assigned) or None, text(d.fallback) or None,
    )  # fmt: skip


def read_order(record: Record) -> tuple[datetime, Values]:
    """Of an order, or a cancel."""
    o = _orders.read(record.value)
    return to_time(o.event_time_ns or o.sent_ns), (
        text(o.order_id), text(o.symbol), text(o.kind), o.quantity, o.price, o.left, text(o.account),
        text(o.strategy), to_time(o.sent_ns), text(o.trace_id),
    )  # fmt: skip


def read_fill(record: Record) -> tuple[datetime, Values]:
    """Of what the broker reported."""
    f = _fills.read(record.value)
    return to_time(f.at_ns), (
        text(f.order_id), text(f.symbol), text(f.kind), f.sequence, f.quantity, f.price, f.fee, f.left,
        text(f.reason),
    )  # fmt: skip


def read_letter(record: Record) -> tuple[datetime, Values]:
    """Of a dead letter."""
    found = _letters.read(record.value)
    place = text(found.topic), found.partition, found.offset
    return own_time(record), (*place, text(found.reason), text(found.trace_id))


def read_command(record: Record) -> tuple[datetime, Values]:
    """Of a command."""
    c = _commands.read(record.value)
    return to_time(c.at_ns), (text(c.kind), text(c.value), text(c.reason), text(c.by))


def read_release(record: Record) -> tuple[datetime, Values]:
    """Of a line of the exporters' journal."""
    r = _releases.read(record.value)
    if r.time.tzinfo is None:
        raise BadRecord(f"its time {r.time.isoformat()} has no zone")
    return r.time.astimezone(UTC), (
        text(r.id), text(r.step), text(r.action), text(r.model), r.version, text(r.user), text(r.reason),
    )  # fmt: skip


def read_experiment(record: Record) -> tuple[datetime, Values]:
    """Of what happened to an experiment."""
    e = _experiments.read(record.value)
    return to_time(e.at_ns), (text(e.experiment), text(e.event), text(e.by), text(e.reason))


def read_start(record: Record) -> tuple[datetime, Values]:
    """Of what a gateway said of itself."""
    s = _starts.read(record.value)
    return to_time(s.at_ns), (
        text(s.event), text(s.instance), text(s.model_name), text(s.model_version), text(s.serving.server),
        text(s.account), text(s.strategy), text(s.decisions_topic_id),
    )  # fmt: skip
