"""What is stored and not signed, against Kafka: both ways, row by row, and nothing passes for another."""

from __future__ import annotations

import random

from services.forensics.comparing import compare_tail
from services.forensics.merkle.tree import GrowingTree
from services.forensics.ports import LogHead, LogName, Tail
from services.forensics.records import leaf_of
from tests.unit.services.forensics.fakes import record

NAME = LogName("id", 0, "topic")


def stored(records, begin=0):
    """Head and tail of a log whose unsigned records these are."""
    tree, before = GrowingTree(), GrowingTree()
    for n in range(begin):
        before.append(leaf_of(record(n)))
        tree.append(leaf_of(record(n)))
    rows = [(r.offset, begin + k, leaf_of(r)) for k, r in enumerate(records)]
    for _, _, leaf in rows:
        tree.append(leaf)
    return LogHead(1, NAME, "decisions", tree, records[-1].offset + 1 if records else begin), before, rows


def compared(head, before, rows, committed):
    return compare_tail(head, Tail(before, 0, iter(rows)), iter(committed))


def test_what_is_the_same_is_the_same():
    for count in (0, 1, 2, 300):
        records = [record(10 + 2 * n) for n in range(count)]
        found = compared(*stored(records, 7), records)
        assert (found.differs, found.damaged) == ("", "")


def test_any_other_row_is_found_and_each_has_a_sentence_of_its_own():
    records = [record(n) for n in range(20)]
    said = set()
    for k in range(20):
        forged = [*records[:k], record(k, b"forged"), *records[k + 1 :]]
        missing = [*records[:k], *records[k + 1 :]]
        for mine in (forged, missing) if k < 19 else (forged,):
            found = compared(*stored(mine), records)
            assert found.damaged == ""
            assert f"offsets {k} to {k}" in found.differs
            said.add(found.differs)
    assert len(said) == 39
    more = [*records[:5], record(100), *records[5:]]
    more.sort(key=lambda one: one.offset)
    assert "offsets 100 to 100" in compared(*stored(more), records).differs


def test_a_second_row_at_a_true_offset_does_not_hide_behind_the_true_one():
    true, forged = record(1), record(1, b"forged")
    for order in ([true, forged], [forged, true]):
        found = compared(*stored([record(0), *order, record(2)]), [record(0), true, record(2)])
        assert "1 unsigned records of topic[0], offsets 1 to 1" in found.differs


def test_a_tree_or_a_place_that_is_not_that_of_the_rows_is_damage_and_nobody_can_accept_it():
    records = [record(n) for n in range(9)]
    head, before, rows = stored(records)
    head.tree.append(b"x" * 32)
    assert "batches" in compared(head, before, rows, records).damaged
    head, before, rows = stored(records)
    rows[3], rows[4] = (3, 4, rows[3][2]), (4, 3, rows[4][2])
    assert "not at its place" in compared(head, before, rows, records).damaged
    head, before, rows = stored(records)
    head.next_offset += 5
    assert "batches" in compared(head, before, rows, records).damaged


def test_the_sentence_stays_the_same_while_records_go_on_coming():
    random_ = random.Random(3)
    records = [record(n) for n in range(50)]
    forged = [record(n, b"forged") if n == 7 else records[n] for n in range(50)]
    said = {compared(*stored(forged[:n]), records[:n]).differs for n in sorted(random_.sample(range(10, 50), 10))}
    assert len(said) == 1
