"""A leaf is every byte that was published, and nothing else makes the same one."""

from __future__ import annotations

from itertools import combinations

from msgspec import structs

from services.forensics.columns import EPOCH, MOST_TEXT
from services.forensics.kinds import BY_ROLE, KINDS, columns_of, row_of, types_of
from services.forensics.records import Record, encode_headers, leaf_of
from tests.trails import records
from tests.unit.gateway.test_pipeline import Bench, quotes
from trading.decision.wire import decode_decision
from trading.encoding import encode

ONE = Record(7, 2, 1_764_000_000_123, b"MRK", b"value", encode_headers([("a", b"b")]))


def test_every_field_is_in_the_leaf():
    others = [
        ONE,
        structs.replace(ONE, offset=8),
        structs.replace(ONE, timestamp_type=1),
        structs.replace(ONE, timestamp_ms=1),
        structs.replace(ONE, key=None),
        structs.replace(ONE, key=b""),
        structs.replace(ONE, key=b"MR", value=b"Kvalue"),
        structs.replace(ONE, value=None),
        structs.replace(ONE, value=b""),
        structs.replace(ONE, headers=None),
        structs.replace(ONE, value=b"value" + (ONE.headers or b""), headers=b""),
    ]
    assert all(leaf_of(a) != leaf_of(b) for a, b in combinations(others, 2))


def test_the_form_of_a_leaf_does_not_change():
    """Every root that was ever signed stands on it."""
    assert leaf_of(ONE).hex() == GOLDEN_LEAF


GOLDEN_LEAF = "fd73c7ed8445d0d34d98d1fd96f5f404244623fec9d7a45399c8cecd6b228ead"


def test_headers_differ_wherever_they_do():
    told = [
        [("a", b"b")], [("a", None)], [("a", b"")], [("ab", b"")], [("a", b"b"), ("c", b"d")], [("c", b"d"), ("a", b"b")],
        [("a", b"b"), ("a", b"b")],
    ]  # fmt: skip
    assert all(encode_headers(a) != encode_headers(b) for a, b in combinations(told, 2))
    assert encode_headers([]) is None


def test_a_decisions_row_is_searched_by_what_it_says():
    decision = Bench([quotes(1)]).run()[0]
    payload = encode(decision)
    kind = BY_ROLE["decisions"]
    record = Record(3, 2, 1_764_000_000_000, b"A", payload)
    row = dict(zip(columns_of(kind), row_of(kind, 1, 0, record, leaf_of(record)), strict=True))
    assert row["decision_id"] == decision.decision_id
    assert row["value"] == payload
    assert row["reason"] == decision.reason.value
    assert row["event_time"].timestamp() == decode_decision(payload).event_time_ns // 1000 / 1e6
    assert row["unreadable"] is None
    assert row["latency_us"] == sum(structs.astuple(decision.stages))


def test_every_kind_reads_what_is_published_and_keeps_what_it_cannot_read():
    for kind in KINDS:
        rows = [row_of(kind, 1, n, r, b"") for n, r in enumerate(records(kind.name, 400))]
        assert {len(row) for row in rows} == {len(columns_of(kind))} == {len(types_of(kind))}
        place = columns_of(kind).index("unreadable")
        unreadable = [row for row in rows if row[place] is not None]
        assert 0 < len(unreadable) < 30
        assert all(value is None for row in unreadable for value in row[place + 1 :])
        assert all(row[3].tzinfo is not None for row in rows)


def test_texts_that_postgresql_has_not_and_long_ones_are_searched_by_what_it_can_keep():
    payload = b'{"kind":"drain","value":"a\\u0000b","reason":"' + b"x" * 3000 + b'","by":"ann","at_ns":5}'
    kind = BY_ROLE["control"]
    row = dict(zip(columns_of(kind), row_of(kind, 1, 0, Record(0, 2, 0, None, payload), b""), strict=True))
    assert row["setting"] == "a\ufffdb"
    assert len(row["reason"]) == MOST_TEXT
    assert row["value"] == payload


def test_a_record_without_a_time_that_can_be_is_filed_under_1970():
    kind = BY_ROLE["dead_letters"]
    for time_type, time_ms in ((0, 5), (1, -1), (1, 2**62)):
        assert row_of(kind, 1, 0, Record(0, time_type, time_ms, None, b"?"), b"")[3] == EPOCH
