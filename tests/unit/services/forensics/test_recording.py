"""What is published goes into the trail once; whoever does not answer is waited for; what should not be is said."""

from __future__ import annotations

import threading

import pytest

from services.forensics import recording
from services.forensics.checkpoint_files import Acceptance, CheckpointFiles
from services.forensics.checkpoints import read
from services.forensics.merkle.tree import GrowingTree
from services.forensics.ports import Alarm, LogName
from services.forensics.recording import Observer, Recorder
from services.forensics.records import leaf_of
from services.forensics.release_journal import JournalShipper
from services.forensics.signing import SECOND_NS, Signer
from tests.trails import KEY, KEYS
from tests.unit.services.forensics.fakes import FakeLines, FakeSource, FakeTrail, record
from trading.errors import ServiceUnavailable

DECISIONS, ORDERS = "trading.decisions", "trading.orders"


class Watching(Observer):
    def __init__(self):
        self.alarms, self.refusals, self.turns, self.signed_at = [], [], [], set()

    def alarm(self, alarm):
        self.alarms.append(alarm.kind)

    def signed(self, signed_at_ns, refuses):
        self.refusals.append(refuses)
        self.signed_at.add(signed_at_ns)

    def turn(self, total, waiting):
        self.turns.append(waiting)


class Desk:
    """Kafka, a database and a folder that outlive a recorder."""

    def __init__(self, folder, **records):
        self.source = FakeSource(
            {
                DECISIONS: ("id-1", "decisions", records.get("decisions", [])),
                ORDERS: ("id-2", "orders", records.get("orders", [])),
            }
        )
        self.trail, self.files, self.topic, self.releases = (
            FakeTrail(),
            CheckpointFiles(folder),
            FakeLines(),
            FakeLines(),
        )
        self.now_ns = 1_764_000_000 * SECOND_NS
        #: By others.
        self.found = []
        self.journal, self.look_s = folder / "journal.jsonl", recording.LOOK_S

    def clock(self):
        self.now_ns += SECOND_NS
        return self.now_ns

    def run(self):
        """Until everything that there is has been read."""
        stopping, watching = threading.Event(), Watching()
        quiet = []

        def stop():
            quiet.append(1)
            if len(quiet) > 10:
                stopping.set()

        self.source.stop_after = stop
        signer = Signer(KEY, KEYS, self.files, self.topic, self.trail)
        recorder = Recorder(
            self.source, self.trail, signer, watching, stopping,
            now_ns=self.clock, look_s=self.look_s,
            beside=[JournalShipper(self.journal, self.releases).ship, lambda: [self.found.pop()] if self.found else []],
        )  # fmt: skip
        self.progress = recorder.run()
        return watching

    def roots(self):
        return {name.topic: (head.tree.size, head.tree.root()) for name, head in self.trail.heads.items()}

    def signed(self):
        return [read(line, KEYS) for line in self.files.lines()]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(recording, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(recording, "LONGEST_PAUSE_S", 0.001)
    monkeypatch.setattr(recording, "GATHER_S", 0.0)
    monkeypatch.setattr(recording, "SETTLING_S", 0.0)
    monkeypatch.setattr(recording, "BESIDE_S", 0.0)


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path, decisions=[record(n) for n in (0, 1, 3, 4, 9)], orders=[record(n) for n in range(3)])


def test_each_record_is_stored_once_also_after_a_restart_and_what_is_stored_is_signed(desk):
    assert desk.run().alarms == []
    assert desk.progress.stored == 8
    first = desk.roots()
    assert {topic: size for topic, (size, _) in first.items()} == {DECISIONS: 5, ORDERS: 3}
    last = desk.signed()[-1]
    assert {head.topic: (head.size, bytes.fromhex(head.root)) for head in last.trees} == first
    assert desk.topic.kept == list(desk.files.lines()) == [line for _, line in desk.trail.checkpoints]
    desk.source.topics[ORDERS][2].append(record(3))
    assert desk.run().alarms == []
    assert desk.progress.stored == 1
    assert desk.signed()[-1].number == last.number + 1


@pytest.mark.parametrize("refusals", range(1, 12))
def test_whoever_does_not_answer_is_waited_for_and_nothing_is_lost_or_repeated(desk, refusals):
    desk.trail.down = refusals
    desk.source.down = refusals // 2
    watching = desk.run()
    assert any(watching.turns)
    assert desk.progress.stored == 8
    assert desk.trail.heads
    assert watching.alarms == []
    assert {topic: size for topic, (size, _) in desk.roots().items()} == {DECISIONS: 5, ORDERS: 3}


def test_another_record_at_a_known_place_is_an_alarm_and_the_first_one_stays(desk):
    desk.run()
    before = desk.roots()
    desk.source.topics[DECISIONS][2][2] = record(3, b'{"forged":1}')
    assert desk.run().alarms == ["different_record"]
    (alarm,) = desk.trail.alarms
    assert (alarm.offset, alarm.record) == (3, b'{"forged":1}')
    assert desk.roots() == before


def test_what_others_find_is_told_and_kept_as_what_it_finds_itself_is(desk):
    desk.found = [Alarm("not_as_signed", f"record {number}") for number in range(3)]
    desk.trail.down = 2
    assert desk.run().alarms == ["not_as_signed"] * 3
    assert sorted(alarm.detail for alarm in desk.trail.alarms) == ["record 0", "record 1", "record 2"]
    assert desk.signed()


def test_an_alarm_waits_for_the_database_and_is_not_lost(desk):
    desk.run()
    desk.source.topics[DECISIONS][2][2] = record(3, b"forged")

    stored = desk.trail.store

    def store(records):
        done = stored(records)
        desk.trail.down = 3
        return done

    desk.trail.store = store
    assert desk.run().alarms == ["different_record"]
    assert [alarm.kind for alarm in desk.trail.alarms] == ["different_record"]


def test_who_waits_for_a_log_to_be_as_long_as_it_was_says_so(desk, monkeypatch):
    desk.run()
    monkeypatch.setattr(recording, "SETTLING_S", 0.3)
    del desk.source.topics[DECISIONS][2][3:]
    seen = desk.run()
    assert any("is shorter than what is stored of it" in turn for turn in seen.turns)
    assert "log_cut" in seen.alarms


def test_a_log_that_was_cut_short_or_lost_its_beginning_is_an_alarm(desk):
    desk.run()
    del desk.source.topics[DECISIONS][2][3:]
    assert "log_cut" in desk.run().alarms
    desk.source.topics[ORDERS][2][:] = [record(n) for n in range(20, 23)]
    assert "records_gone" in desk.run().alarms
    assert desk.roots()[ORDERS][0] == 6


def test_a_topic_that_was_made_anew_is_another_tree_and_the_old_one_stays_signed(desk):
    desk.run()
    kept = [record(n, b'{"new":1}') for n in range(2)]
    desk.source.topics[ORDERS] = ("id-3", "orders", kept)
    # It was made while nobody looked.
    assert desk.run().alarms == ["topic_recreated"]
    assert desk.run().alarms == []
    sizes = {(head.topic_id, head.size) for head in desk.signed()[-1].trees}
    assert sizes == {("id-1", 5), ("id-2", 3), ("id-3", 2)}


def test_a_topic_that_is_made_anew_meanwhile_is_noticed_before_its_records_are_stored(desk):
    read_on, calls = desk.source.read, []

    def read_and_make_anew(count, timeout_s):
        found = read_on(count, timeout_s)
        if not calls:
            calls.append(1)
            desk.source.topics[ORDERS] = ("id-3", "orders", desk.source.topics[ORDERS][2])
        return found

    desk.source.read = read_and_make_anew
    assert desk.run().alarms == ["topic_recreated"]
    assert {(name.topic_id, head.tree.size) for name, head in desk.trail.heads.items()} == {
        ("id-1", 5), ("id-2", 0), ("id-3", 3),
    }  # fmt: skip


def test_a_database_that_was_lost_is_built_again_with_the_same_roots(desk):
    desk.run()
    before, signed = desk.roots(), len(desk.signed())
    desk.trail.wipe()
    desk.source.topics[ORDERS][2].append(record(3))
    assert desk.run().alarms == []
    assert desk.roots()[DECISIONS] == before[DECISIONS]
    assert desk.roots()[ORDERS][0] == 4
    assert len(desk.signed()) > signed


def test_what_is_built_again_from_other_records_is_never_signed(desk):
    desk.run()
    signed = list(desk.files.lines())
    desk.trail.wipe()
    desk.source.topics[ORDERS][2][1] = record(1, b"forged")
    watching = desk.run()
    assert watching.alarms == ["root_differs"]
    assert list(desk.files.lines()) == signed
    assert any("not those that were signed" in why for why in watching.refusals)


def test_nothing_is_signed_until_all_is_built_again(desk):
    desk.run()
    signed = list(desk.files.lines())
    desk.trail.wipe()
    kept = desk.source.topics[ORDERS][2]
    del kept[1:]
    watching = desk.run()
    assert list(desk.files.lines()) == signed
    assert "1 logs are not yet as far as they were signed" in watching.refusals


def test_a_log_that_was_signed_and_is_nowhere_any_more_ends_signing(desk):
    desk.run()
    desk.trail.wipe()
    del desk.source.topics[ORDERS]
    assert desk.run().alarms == ["root_differs"]


def test_a_life_that_may_sign_nothing_says_when_an_earlier_one_did_last(desk):
    desk.run()
    last = desk.signed()[-1].signed_at_ns
    desk.trail.wipe()
    del desk.source.topics[ORDERS]
    watching = desk.run()
    assert all(watching.refusals)
    assert watching.signed_at == {last}


def test_a_trail_that_is_cut_while_it_is_written_is_told_and_built_again(desk):
    desk.run()
    signed = len(desk.signed())
    stored, calls = desk.trail.store, []

    def store(records):
        if not calls:
            calls.append(1)
            for head in desk.trail.heads.values():
                head.next_offset, head.tree = 0, type(head.tree)()
            desk.trail.kept = {}
            raise ServiceUnavailable("the connection was lost, and what it held")
        return stored(records)

    desk.trail.store = store
    desk.source.topics[ORDERS][2].append(record(3))
    watching = desk.run()
    assert "trail_cut" in watching.alarms
    assert desk.roots()[DECISIONS][0] == 5
    assert len(desk.signed()) >= signed


def test_releases_are_published_from_the_journal_once(desk):
    desk.journal.write_bytes(b'{"id":"a"}\n{"id":"b"}\n{"id":"to')
    desk.run()
    desk.run()
    assert desk.releases.kept == [b'{"id":"a"}', b'{"id":"b"}']
    desk.journal.write_bytes(b'{"id":"a"}\n{"id":"forged"}\n{"id":"c"}\n')
    assert desk.run().alarms == ["journal_changed"]
    desk.journal.write_bytes(b'{"id":"a"}\n')
    assert desk.run().alarms == ["journal_changed"]
    assert desk.releases.kept == [b'{"id":"a"}', b'{"id":"b"}']


def test_a_past_that_was_rewritten_below_what_is_stored_is_never_signed(desk):
    """More is stored than was signed, so that no root of that size is met again."""
    desk.run()
    signed = list(desk.files.lines())
    name = next(n for n in desk.trail.heads if n.topic == ORDERS)
    kept = desk.trail.kept[name]
    kept[1] = b"f" * 32
    kept[3] = leaf_of(record(3))
    head = desk.trail.heads[name]
    head.tree = GrowingTree()
    for leaf in kept.values():
        head.tree.append(leaf)
    head.next_offset = 4
    desk.source.topics[ORDERS][2].append(record(3))
    assert "root_differs" in desk.run().alarms
    assert list(desk.files.lines()) == signed


def test_a_log_that_kafka_does_not_have_and_nobody_signed_ends_signing(desk):
    desk.run()
    forged = LogName("forged", 0, "trading.decisions")
    desk.trail.open(forged, "decisions").tree.append(b"f" * 32)
    signed = list(desk.files.lines())
    assert desk.run().alarms == ["root_differs"]
    assert list(desk.files.lines()) == signed


def test_a_head_that_was_rewritten_in_its_place_is_noticed_after_a_new_connection(desk):
    desk.run()
    signed = list(desk.files.lines())
    stored, calls = desk.trail.store, []

    def store(records):
        if not calls:
            calls.append(1)
            head = next(h for h in desk.trail.heads.values() if h.name.topic == DECISIONS)
            head.tree.peaks[-1] = b"f" * 32
            raise ServiceUnavailable("the connection was lost")
        return stored(records)

    desk.trail.store = store
    desk.source.topics[ORDERS][2].append(record(3))
    assert "root_differs" in desk.run().alarms
    assert list(desk.files.lines()) == signed


def test_a_release_that_met_kafka_away_is_published_when_it_is_back(desk):
    desk.journal.write_bytes(b'{"id":"a"}\n')
    desk.releases.down = 1
    desk.run()
    assert desk.releases.kept == [b'{"id":"a"}']


def refused(desk):
    """Why the last checkpoint was not signed; "" where it was."""
    return desk.run().refusals[-1]


def looked_at(desk, why):
    desk.files.accept(Acceptance(why, "ann", "incident 41", 1))


def stored_unsigned(desk, offsets, value=b"{}"):
    """Records that were stored and, before they were signed, the process was killed."""
    desk.run()
    name = next(name for name in desk.trail.heads if name.topic == DECISIONS)
    desk.trail.store({name: [record(n, value) for n in offsets]})
    desk.source.topics[DECISIONS][2].extend(record(n) for n in offsets)
    return desk.signed()[-1]


def test_what_is_stored_and_unsigned_is_compared_with_kafka_before_it_is_signed(desk, monkeypatch):
    monkeypatch.setattr(recording, "OVERLAP", 0)
    last = stored_unsigned(desk, range(10, 400))
    assert refused(desk) == ""
    assert desk.signed()[-1].number > last.number
    assert desk.trail.alarms == []


def test_what_differs_and_was_never_signed_is_not_signed_until_somebody_has_looked(desk, monkeypatch):
    monkeypatch.setattr(recording, "OVERLAP", 0)
    last = stored_unsigned(desk, range(10, 30), b"forged in the database")
    why = refused(desk)
    assert why.startswith(
        f"20 unsigned records of {DECISIONS}[0], offsets 10 to 29, are not those that Kafka has ("
    )
    assert desk.signed()[-1] == last
    # It says so again after each restart, though more has come meanwhile, and goes on once somebody has accepted it.
    desk.source.topics[DECISIONS][2].append(record(40))
    assert refused(desk) == why
    looked_at(desk, why)
    assert refused(desk) == ""
    assert desk.signed()[-1].number == last.number + 1


def test_what_was_accepted_does_not_cover_the_next_forgery(desk, monkeypatch):
    monkeypatch.setattr(recording, "OVERLAP", 0)
    stored_unsigned(desk, range(10, 15), b"forged")
    first = refused(desk)
    looked_at(desk, first)
    stored_unsigned(desk, range(20, 25), b"forged again")
    second = refused(desk)
    assert second != ""
    assert second != first


def test_a_row_where_kafka_has_none_is_not_signed(desk, monkeypatch):
    """As at a transaction's end marker: whoever owns the database may put one there while nobody looks."""
    monkeypatch.setattr(recording, "OVERLAP", 0)
    last = stored_unsigned(desk, [])
    name = next(name for name in desk.trail.heads if name.topic == DECISIONS)
    desk.trail.store({name: [record(10, b"forged")]})
    desk.source.topics[DECISIONS][2].append(record(11))
    why = refused(desk)
    assert why.startswith(f"1 unsigned records of {DECISIONS}[0], offsets 10 to 10")
    assert desk.signed()[-1] == last


@pytest.mark.parametrize("failures", range(1, 8))
def test_an_answer_that_is_lost_in_between_does_not_let_it_be_signed(desk, monkeypatch, failures):
    monkeypatch.setattr(recording, "OVERLAP", 0)
    last = stored_unsigned(desk, range(10, 15), b"forged")
    desk.source.topics[DECISIONS][2].append(record(40))
    desk.trail.down = failures
    assert refused(desk) != ""
    assert desk.signed()[-1] == last


def test_unsigned_records_that_kafka_has_lost_are_not_signed(desk):
    stored_unsigned(desk, range(10, 15))
    del desk.source.topics[DECISIONS][2][-3:]
    why = refused(desk)
    assert why.startswith(f"3 unsigned records of {DECISIONS}[0], offsets 12 to 14")
    desk.source.topics[DECISIONS][2].append(record(30))
    assert refused(desk) == why
    looked_at(desk, why)
    assert refused(desk) == ""


def test_a_log_that_is_lost_keeps_its_place_once_somebody_has_accepted_it(desk):
    desk.run()
    before = {head.name: head for head in desk.signed()[-1].trees}
    desk.trail.wipe()
    del desk.source.topics[ORDERS]
    why = refused(desk)
    assert why == f"of 3 signed records of {ORDERS}[0] the trail has 0, and Kafka has no such log"
    looked_at(desk, why)
    desk.source.topics[DECISIONS][2].append(record(20))
    assert refused(desk) == ""
    after = {head.name: head for head in desk.signed()[-1].trees}
    lost = next(name for name in before if name.topic == ORDERS)
    assert after[lost] == before[lost]
    assert sum(head.size for head in after.values()) == 9


def test_what_was_not_signed_before_kafka_lost_the_log_is_never_signed(desk):
    desk.run()
    name = next(name for name in desk.trail.heads if name.topic == ORDERS)
    before = {head.name: head for head in desk.signed()[-1].trees}[name]
    desk.trail.store({name: [record(3, b"forged")]})
    desk.source.topics[ORDERS] = ("id-9", "orders", [record(0)])
    assert refused(desk) == ""
    assert {head.name: head for head in desk.signed()[-1].trees}[name] == before
    assert {alarm.kind for alarm in desk.trail.alarms} == {"topic_recreated", "trail_cut"}


def test_many_that_differ_are_some_alarms_and_a_sum(desk):
    desk.source.topics[DECISIONS][2].extend(record(n) for n in range(10, 100))
    desk.run()
    desk.source.topics[DECISIONS][2][-60:] = [record(n, b"other") for n in range(40, 100)]
    assert desk.run().alarms == ["different_record"] * 21
    assert "so are 40 more, up to offset 99" in desk.trail.alarms[20].detail


def test_partitions_that_are_added_are_read_without_a_restart(desk):
    desk.look_s = 0.0
    read = desk.source.read
    added = []

    def later(count, timeout_s):
        found = read(count, timeout_s)
        if not found and not added:
            added.append(1)
            desk.source.topics["trading.fills"] = ("id-3", "fills", [record(0)])
        return found

    desk.source.read = later
    assert desk.run().alarms == []
    assert desk.roots()["trading.fills"][0] == 1


def test_whoever_accepts_is_heard_without_a_restart(desk):
    desk.look_s = 0.0
    last = stored_unsigned(desk, range(10, 12), b"forged")
    raise_alarm = desk.trail.raise_alarm

    def looked_at_once(alarm):
        raise_alarm(alarm)
        if alarm.kind == "root_differs":
            looked_at(desk, alarm.detail)

    desk.trail.raise_alarm = looked_at_once
    assert refused(desk) == ""
    assert desk.signed()[-1].number == last.number + 1
