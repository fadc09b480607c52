"""What a span of the trail holds, counted: for a report to people who supervise."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct

from services.forensics.ports import LogName
from services.forensics.store.reading import TrailReader
from trading.control import read_command
from trading.errors import BadRecord

ORDERS = """
SELECT symbol, action, count(*), sum(abs(quantity)), sum(abs(quantity * reference_price)),
    count(*) FILTER (WHERE outcome = 'clip')
FROM trail.decisions WHERE event_time >= %(since)s AND event_time < %(until)s AND action <> 'hold'
GROUP BY symbol, action ORDER BY symbol, action
"""
REJECTIONS = """
SELECT rule, count(*), count(DISTINCT symbol), min(event_time), max(event_time) FROM (
    SELECT unnest(broken_rules) AS rule, symbol, event_time FROM trail.decisions
    WHERE event_time >= %(since)s AND event_time < %(until)s AND outcome = 'deny'
) AS broken GROUP BY rule ORDER BY count(*) DESC, rule
"""
BROKER = """
SELECT f.kind, coalesce(nullif(f.reason, ''), 'none'), count(*), sum(abs(f.quantity)), sum(f.fee)
FROM trail.fills f WHERE f.order_id IN (
    SELECT decision_id FROM trail.decisions
    WHERE event_time >= %(since)s AND event_time < %(until)s AND action <> 'hold'
) GROUP BY 1, 2 ORDER BY 1, 2
"""
COMMANDS = """
SELECT event_time, kind, setting, set_by, reason, value, record_offset FROM trail.commands
WHERE event_time >= %(since)s AND event_time < %(until)s ORDER BY event_time, record_offset
"""
LATENCY = """
SELECT date_trunc(%(step)s, event_time, 'UTC') AS at, count(*),
    percentile_cont(ARRAY[0.5, 0.95, 0.99, 0.999]) WITHIN GROUP (ORDER BY latency_us), max(latency_us),
    count(*) FILTER (WHERE reason IN ('deadline_exceeded', 'superseded'))
FROM trail.decisions WHERE event_time >= %(since)s AND event_time < %(until)s AND decision_id IS NOT NULL
GROUP BY 1 ORDER BY 1
"""
HOLDS = """
SELECT reason, count(*) FROM trail.decisions
WHERE event_time >= %(since)s AND event_time < %(until)s AND action = 'hold' GROUP BY 1 ORDER BY 2 DESC, 1
"""
LETTERS = """
SELECT reason, count(*) FROM trail.dead_letters
WHERE event_time >= %(since)s AND event_time < %(until)s GROUP BY 1 ORDER BY 2 DESC, 1
"""
RELEASES = """
SELECT event_time, model, version, action, step, released_by, reason FROM trail.releases
WHERE event_time >= %(since)s AND event_time < %(until)s ORDER BY event_time, record_offset
"""
ALARMS = """
SELECT raised_at, kind, detail FROM trail.alarms WHERE raised_at >= %(since)s AND raised_at < %(until)s ORDER BY id
"""
#: Offsets that a log has no record at, and in how many runs: between batches and within them.
GAPS = """
SELECT l.topic_id, l.topic_partition, l.topic, sum(b.to_size - b.from_size)::bigint, min(b.first_offset),
    max(b.last_offset)
FROM trail.batches b JOIN trail.logs l ON l.id = b.log GROUP BY 1, 2, 3 ORDER BY 3, 2
"""
#: Commands that stop, reduce or let go on; all else changes settings.
STATES, LIMITS = "trading_state", "limits"


class Table(Struct, frozen=True):
    """A part of a report: what it shows, its columns, its rows as text and numbers."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]


class TrailSummary(Struct, frozen=True):
    """A span of event time, in parts.

    Attributes:
        since, until: of event time; `until` is not in it.
        tables: orders, rejections, broker, kill_switch, limit_changes, other_commands, holds, latency,
            dead_letters, releases, alarms, gaps.
    """

    since: datetime
    until: datetime
    tables: list[Table]

    def table(self, name: str) -> Table:
        """One of them."""
        return next(one for one in self.tables if one.name == name)


def summarize(reader: TrailReader, since: datetime, until: datetime) -> TrailSummary:
    """Count a span. Raises ServiceUnavailable."""
    span = {"since": since, "until": until, "step": step_of(since, until)}

    def rows(statement: str) -> list[tuple[Any, ...]]:
        return reader.query(statement, span)

    commands = [to_command(row) for row in rows(COMMANDS)]
    kinds = {"kill_switch": STATES, "limit_changes": LIMITS}
    told = ("at", "kind", "value", "by", "reason", "offset")
    tables = [
        Table("orders", "Orders", ("symbol", "action", "orders", "units", "traded", "clipped"), rows(ORDERS)),
        Table("rejections", "Rejections by rule", ("rule", "orders", "symbols", "first", "last"), rows(REJECTIONS)),
        Table(
            "broker", "The broker's reports on these orders", ("kind", "reason", "reports", "units", "fees"),
            rows(BROKER),
        ),
        *(
            Table(name, f"{words_of(name)} (by the wall clock)", told, [c for c in commands if c[1] == kind])
            for name, kind in kinds.items()
        ),
        Table(
            "other_commands", "Other commands (by the wall clock)", told,
            [c for c in commands if c[1] not in kinds.values()],
        ),
        Table("holds", "Holds by reason", ("reason", "decisions"), rows(HOLDS)),
        Table(
            "latency", f"Latency by {span['step']}, ms from sending a tick to its decision",
            ("from", "decisions", "p50", "p95", "p99", "p99_9", "max", "late"),
            [(r[0], r[1], *(v / 1e3 for v in r[2]), r[3] / 1e3, r[4]) for r in rows(LATENCY)],
        ),
        Table("dead_letters", "What was no tick (by the broker's clock)", ("reason", "messages"), rows(LETTERS)),
        Table(
            "releases", "Model releases (by the wall clock)",
            ("at", "model", "version", "action", "step", "by", "reason"), rows(RELEASES),
        ),
        Table("alarms", "Alarms of the trail (by the wall clock)", ("at", "kind", "detail"), rows(ALARMS)),
        Table(
            "gaps", "Offsets without a record, of all time (transaction markers, aborted transactions)",
            ("log", "records", "first", "last", "without"), [to_gaps(row) for row in rows(GAPS)],
        ),
    ]  # fmt: skip
    return TrailSummary(since, until, tables)


def words_of(name: str) -> str:
    """A table's name as a title."""
    return name.replace("_", " ").capitalize()


def step_of(since: datetime, until: datetime) -> str:
    """How finely latency is told: a minute, an hour or a day."""
    hours = (until - since).total_seconds() / 3600
    return "minute" if hours <= 2 else "hour" if hours <= 72 else "day"


def to_command(row: Sequence[Any]) -> tuple[Any, ...]:
    """A command as it was given; what cannot be read is shown as far as it was indexed."""
    at, kind, setting, by, reason, value, offset = row
    try:
        command = read_command(None if value is None else bytes(value))
    except BadRecord:
        return at, kind or "unreadable", setting or "", by or "", reason or "", offset
    return at, command.kind, command.value, command.by, command.reason, offset


def to_gaps(row: Sequence[Any]) -> tuple[Any, ...]:
    """Records of a log, and how many of the offsets that they span have none."""
    name, count, first, last = LogName(row[0], row[1], row[2]), int(row[3]), int(row[4]), int(row[5])
    return str(name), count, first, last, last - first + 1 - count
