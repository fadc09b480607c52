"""What is on record, a table a kind: which topic it comes from, and what it is searched by.

The columns are read from the record's own bytes, so that whoever verifies a trail reads them again and compares. A
record that cannot be read is kept like any other, with the reason in `unreadable` and nothing to search by.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from msgspec import Struct

from connectors.kafka.topics import UNPARTITIONED
from services.forensics import columns
from services.forensics.columns import Values, own_time, text
from services.forensics.records import Record
from trading.errors import BadRecord

#: Kinds whose old records may go; all others are kept for good: limits of eight years ago may still hold.
RETIRABLE = ("decisions", "orders", "fills", "dead_letters")


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
            ("experiment", "text"), ("assigned", "text"), ("fallback", "text"),
        ),
        ("decision_id",), columns.read_decision,
    ),
    Kind(
        "orders", "orders",
        (
            ("order_id", "text"), ("symbol", "text"), ("kind", "text"), ("quantity", "double precision"),
            ("price", "double precision"), ("left_quantity", "double precision"), ("account", "text"),
            ("strategy", "text"), ("sent_at", "timestamptz"), ("trace_id", "text"),
        ),
        ("order_id",), columns.read_order,
    ),
    Kind(
        "fills", "fills",
        (
            ("order_id", "text"), ("symbol", "text"), ("kind", "text"), ("sequence", "bigint"),
            ("quantity", "double precision"), ("price", "double precision"), ("fee", "double precision"),
            ("left_quantity", "double precision"), ("reason", "text"),
        ),
        ("order_id",), columns.read_fill,
    ),
    Kind(
        "dead_letters", "dead_letters",
        (
            ("tick_topic", "text"), ("tick_partition", "bigint"), ("tick_offset", "bigint"), ("reason", "text"),
            ("trace_id", "text"),
        ),
        ("tick_offset",), columns.read_letter,
    ),
    Kind(
        "commands", "control",
        (("kind", "text"), ("setting", "text"), ("reason", "text"), ("set_by", "text")),
        (), columns.read_command,
    ),
    Kind(
        "releases", "releases",
        (
            ("release_id", "text"), ("step", "text"), ("action", "text"), ("model", "text"), ("version", "bigint"),
            ("released_by", "text"), ("reason", "text"),
        ),
        (), columns.read_release,
    ),
    Kind(
        "experiments", "experiments",
        (("experiment", "text"), ("event", "text"), ("set_by", "text"), ("reason", "text")),
        (), columns.read_experiment,
    ),
    Kind(
        "starts", "starts",
        (
            ("event", "text"), ("instance", "text"), ("model_name", "text"), ("model_version", "text"),
            ("server", "text"), ("account", "text"), ("strategy", "text"), ("decisions_topic_id", "text"),
        ),
        (), columns.read_start,
    ),
)  # fmt: skip
#: Kinds of which there are few: they lie in one partition.
FEW = frozenset(kind.name for kind in KINDS if kind.role in UNPARTITIONED)
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
