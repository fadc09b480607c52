"""What is on record, a table a kind: which topic it comes from, and what it is searched by.

The columns are read from the record's own bytes, so that whoever verifies a trail reads them again and compares. A
record that cannot be read is kept like any other, with the reason in `unreadable` and nothing to search by.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec import Struct

from services.forensics.records import Record
from trading.encoding import Int64, Records
from trading.errors import BadRecord

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: Of a text to search by: an index holds no more, and the whole lies in the record.
MOST_TEXT = 500
#: What a record's own time may be for PostgreSQL and for people; others are filed under 1970.
FIRST_MS, LAST_MS = 0, 9_000_000_000_000

Values = tuple[Any, ...]


class Kind(Struct, frozen=True):
    """One table of the trail.

    Attributes:
        name: of the table.
        role: of the topic, as in `connectors.kafka.topics.Topics`.
        columns: name and PostgreSQL type of what is searched by, in order.
        indexed: which of them have an index.
        read: time of the event and the columns' values. Raises BadRecord.
    """

    name: str
    role: str
    columns: tuple[tuple[str, str], ...]
    indexed: tuple[str, ...]
    read: Callable[[Record], tuple[datetime, Values]]


#: What every table has before its own columns; `unreadable` says why there is nothing to search by.
COMMON = (
    ("log", "integer"),
    ("record_offset", "bigint"),
    ("leaf_index", "bigint"),
    ("event_time", "timestamptz"),
    ("timestamp_type", "smallint"),
    ("timestamp_ms", "bigint"),
    ("key", "bytea"),
    ("value", "bytea"),
    ("headers", "bytea"),
    ("leaf", "bytea"),
    ("unreadable", "text"),
)


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
    quantity: float
    reference_price: float | None
    mid_price: float | None
    position_before: float
    position_after: float
    target_position: float | None
    model_name: str
    model_version: str
    variant: str
    trading_state: str
    verdict: _Verdict | None
    stages: _Stages
    decided_at_ns: Int64
    trace_id: str = ""
    limits_version: str = ""


class _Order(Struct, gc=False):
    order_id: str
    symbol: str
    sent_ns: Int64
    account: str
    strategy: str
    kind: str = "new"
    event_time_ns: Int64 = 0
    quantity: float | None = None
    price: float | None = None
    left: float | None = None
    trace_id: str = ""


class _Fill(Struct, gc=False):
    order_id: str
    symbol: str
    sequence: Int64
    kind: str
    quantity: float
    price: float
    fee: float
    left: float
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


def _read_decision(record: Record) -> tuple[datetime, Values]:
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
    )  # fmt: skip


def _read_order(record: Record) -> tuple[datetime, Values]:
    o = _orders.read(record.value)
    return to_time(o.event_time_ns or o.sent_ns), (
        text(o.order_id), text(o.symbol), text(o.kind), o.quantity, o.price, o.left, text(o.account),
        text(o.strategy), to_time(o.sent_ns), text(o.trace_id),
    )  # fmt: skip


def _read_fill(record: Record) -> tuple[datetime, Values]:
    f = _fills.read(record.value)
    return to_time(f.at_ns), (
        text(f.order_id), text(f.symbol), text(f.kind), f.sequence, f.quantity, f.price, f.fee, f.left,
        text(f.reason),
    )  # fmt: skip


def _read_letter(record: Record) -> tuple[datetime, Values]:
    found = _letters.read(record.value)
    place = text(found.topic), found.partition, found.offset
    return own_time(record), (*place, text(found.reason), text(found.trace_id))


def _read_command(record: Record) -> tuple[datetime, Values]:
    c = _commands.read(record.value)
    return to_time(c.at_ns), (text(c.kind), text(c.value), text(c.reason), text(c.by))


def _read_release(record: Record) -> tuple[datetime, Values]:
    r = _releases.read(record.value)
    if r.time.tzinfo is None:
        raise BadRecord(f"its time {r.time.isoformat()} has no zone")
    return r.time.astimezone(UTC), (
        text(r.id), text(r.step), text(r.action), text(r.model), r.version, text(r.user), text(r.reason),
    )  # fmt: skip


def _read_experiment(record: Record) -> tuple[datetime, Values]:
    e = _experiments.read(record.value)
    return to_time(e.at_ns), (text(e.experiment), text(e.event), text(e.by), text(e.reason))


KINDS = (
    Kind(
        "decisions", "decisions",
        (
            ("decision_id", "text"), ("symbol", "text"), ("action", "text"), ("reason", "text"),
            ("quantity", "double precision"), ("reference_price", "double precision"),
            ("mid_price", "double precision"), ("position_before", "double precision"),
            ("position_after", "double precision"), ("target_position", "double precision"),
            ("model_name", "text"), ("model_version", "text"), ("variant", "text"), ("trading_state", "text"),
            ("limits_version", "text"), ("outcome", "text"), ("broken_rules", "text[]"),
            ("decided_at", "timestamptz"), ("latency_us", "double precision"), ("trace_id", "text"),
        ),
        ("decision_id",), _read_decision,
    ),
    Kind(
        "orders", "orders",
        (
            ("order_id", "text"), ("symbol", "text"), ("kind", "text"), ("quantity", "double precision"),
            ("price", "double precision"), ("left_quantity", "double precision"), ("account", "text"),
            ("strategy", "text"), ("sent_at", "timestamptz"), ("trace_id", "text"),
        ),
        ("order_id",), _read_order,
    ),
    Kind(
        "fills", "fills",
        (
            ("order_id", "text"), ("symbol", "text"), ("kind", "text"), ("sequence", "bigint"),
            ("quantity", "double precision"), ("price", "double precision"), ("fee", "double precision"),
            ("left_quantity", "double precision"), ("reason", "text"),
        ),
        ("order_id",), _read_fill,
    ),
    Kind(
        "dead_letters", "dead_letters",
        (
            ("tick_topic", "text"), ("tick_partition", "bigint"), ("tick_offset", "bigint"), ("reason", "text"),
            ("trace_id", "text"),
        ),
        ("tick_offset",), _read_letter,
    ),
    Kind(
        "commands", "control",
        (("kind", "text"), ("setting", "text"), ("reason", "text"), ("set_by", "text")),
        (), _read_command,
    ),
    Kind(
        "releases", "releases",
        (
            ("release_id", "text"), ("step", "text"), ("action", "text"), ("model", "text"), ("version", "bigint"),
            ("released_by", "text"), ("reason", "text"),
        ),
        (), _read_release,
    ),
    Kind(
        "experiments", "experiments",
        (("experiment", "text"), ("event", "text"), ("set_by", "text"), ("reason", "text")),
        (), _read_experiment,
    ),
)  # fmt: skip
BY_ROLE = {kind.role: kind for kind in KINDS}
BY_NAME = {kind.name: kind for kind in KINDS}


def columns_of(kind: Kind) -> list[str]:
    """The names of all of a table's columns, in the order of `row_of`."""
    return [name for name, _ in (*COMMON, *kind.columns)]


def types_of(kind: Kind) -> list[str]:
    """Their PostgreSQL types."""
    return [declared for _, declared in (*COMMON, *kind.columns)]


def row_of(kind: Kind, log: int, leaf_index: int, record: Record, leaf: bytes) -> Values:
    """The values of all of a table's columns."""
    unreadable = None
    try:
        event_time, values = kind.read(record)
    except (BadRecord, OverflowError) as error:
        event_time, values, unreadable = own_time(record), (None,) * len(kind.columns), text(str(error))
    return (
        log, record.offset, leaf_index, event_time, record.timestamp_type, record.timestamp_ms, record.key,
        record.value, record.headers, leaf, unreadable, *values,
    )  # fmt: skip
