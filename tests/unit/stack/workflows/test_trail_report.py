"""A report's files: spans as people write them, cells that stay text, a page that escapes."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest

from services.forensics.kinds import BY_NAME
from services.forensics.reporting import Table, TrailSummary, step_of, to_command
from stack.workflows.regulation import REGULATION
from stack.workflows.trail_report import inert, to_csv, to_page, to_span
from trading.errors import ConfigurationError

DAY = datetime(2026, 11, 27, tzinfo=UTC)
NAMES = (
    "orders",
    "rejections",
    "broker",
    "kill_switch",
    "limit_changes",
    "other_commands",
    "holds",
    "latency",
    "alarms",
)


def summary(**rows):
    tables = [Table(name, name, ("a", "b", "c"), rows.get(name, [])) for name in NAMES]
    return TrailSummary(DAY, DAY, tables)


def test_a_date_is_in_the_span():
    assert to_span("2026-11-26", "2026-11-26") == (datetime(2026, 11, 26, tzinfo=UTC), DAY)
    assert to_span("2026-11-26T10:00:00+01:00", "2026-11-26T10:00")[0].astimezone(UTC).hour == 9
    assert to_span("2020-01-01", None)[1] > DAY
    assert to_span("20261126", "20261126") == to_span("2026-11-26", "2026-11-26")
    with pytest.raises(ConfigurationError, match="9999"):
        to_span("2026-11-26", "9999-12-31")


@pytest.mark.parametrize(
    ("since", "until"),
    [
        ("yesterday", None),
        ("2026-11-27", "2026-11-26"),
        ("2026-13-01", None),
        ("2999-01-01", None),
        ("0001-01-01T00:00+14:00", None),
    ],
)
def test_what_is_no_span_is_named(since, until):
    with pytest.raises(ConfigurationError, match=re.escape(since)):
        to_span(since, until)


def test_latency_is_told_as_finely_as_the_span_allows():
    assert [step_of(DAY, DAY.replace(day=d, hour=h)) for d, h in ((27, 1), (29, 0), (30, 23))] == [
        "minute",
        "hour",
        "day",
    ]


def test_nothing_that_somebody_wrote_runs_anywhere():
    evil = "=HYPERLINK(1)"
    assert b"'=HYPERLINK" in to_csv(Table("x", "x", ("a",), [(evil,)]))
    for begins in ("\n=1", " =1", "\uff1d1", "@x", "\t1"):
        assert inert(begins) == f"'{begins}"
    assert to_command((DAY, None, None, None, None, None, 5))[1] == "unreadable"
    page = to_page(summary(kill_switch=[(DAY, "<script>alert(1)</script>", "x")], orders=[("A", "buy", 3)]), "")
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert ">3</b>orders" in page


def test_a_part_with_nothing_in_it_says_so_and_a_long_one_names_its_file():
    page = to_page(summary(holds=[("x", 1, 2)] * 500), "")
    assert page.count('<p class="note">none</p>') == len(NAMES) - 1
    assert '300 more rows are in <a href="holds.csv">' in page


def test_every_column_that_the_table_of_regulation_names_is_there():
    named = {
        (kind, column)
        for _, _, held in REGULATION
        for kind, column in re.findall(r"\b(\w+)\.(\w+)", held)
        if kind in BY_NAME
    }
    assert len(named) > 8
    common = {"value", "key", "headers", "event_time", "record_offset", "leaf_index"}
    for kind, column in named:
        assert column in common | {name for name, _ in BY_NAME[kind].columns}, (kind, column)
