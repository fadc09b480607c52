"""What is rebuilt from the log of a partition is what decided it, wherever it stopped and whatever else lies there."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from gateway.partitions import PartitionStates
from gateway.pipeline import Pipeline, PipelineSettings
from gateway.ports import Ports, Stream
from tests.fakes import FakeClock, FakeMetrics, FakeReservations, FakeSink, FakeSnapshots, FakeSource, FakeStates
from tests.golden_log import NO_DEADLINE, PARTITIONS, Broker, Model, raw_batches
from trading.decision import wire
from trading.decision.policy import DecisionPolicy
from trading.events import Command
from trading.intake import Admission
from trading.risk.limits import LimitSet, LimitsFile
from trading.state.codec import encode_snapshot
from trading.state.log import Committed, LoggedMessage, OtherLog
from trading.state.partition import PartitionState
from trading.state.recovery import Recovery

SOURCE = "simulate:regimes?seed=4&ticks=1500&symbols=3"
FILE = LimitsFile(defaults={"capital": 3e6, "max_staleness_s": 1e6, "max_order_notional": 1e6})
OTHER = LimitsFile(defaults={"capital": 2e6, "max_staleness_s": 1e6, "max_order_notional": 9e5, "lot": 0.01})
ADMISSION = Admission(frozenset(), 64)


class RecordingBroker(Broker):
    """Keeps the reports as they lie in the fills' topic."""

    def __init__(self):
        super().__init__()
        self.fills = {p: [] for p in range(PARTITIONS)}

    def take(self, partition, fills_to, control_to):
        found = super().take(partition, fills_to, control_to)
        self.fills[partition] += found.reports if found else []
        return found


class FakeLog:
    """A partition's log in lists; implements PartitionLog."""

    name, ticks_topic = "cluster/ticks/decisions/group", FakeSource.topic
    cluster, group, was = "cluster", "group", {}

    def __init__(self, run, partition):
        self.partition = partition
        self.messages = list(run.messages[partition])
        self.published = list(run.decisions[partition])
        self.kept = []
        self.fills, self.told = run.broker.fills[partition], run.broker.commands
        self.commit, self.commit_log = self.messages[-1].offset + 1, self.name
        self.first, self.end = 0, self.commit
        self.letters = set()

    def committed(self):
        return Committed(self.commit, self.commit_log)

    def bounds(self):
        return self.first, self.end

    def buried(self, since):
        return {offset for offset in self.letters if offset >= since}

    def snapshots(self):
        return iter(self.kept)

    def ticks(self, start, stop):
        found = [m for m in self.messages if max(start, self.first) <= m.offset < stop]
        return iter([found[k : k + 100] for k in range(0, len(found), 100)])

    def decisions(self, start):
        found = list(enumerate(self.published))[start:]
        return iter([found[k : k + 70] for k in range(0, len(found), 70)])

    def reports(self, start, stop):
        assert stop <= len(self.fills)
        return list(enumerate(self.fills))[start:stop]

    def commands(self, start, stop):
        return self.told[start:stop]


class Run:
    """A gateway that decided, and what it left in the log."""

    def __init__(self, batches, *, assumed):
        clock, self.broker = FakeClock(0), RecordingBroker()
        self.limits = LimitSet(FILE, books=PARTITIONS)
        self.states = PartitionStates(lambda: PartitionState(self.limits))
        self.messages = {p: [] for p in range(PARTITIONS)}
        self.decisions = {p: [] for p in range(PARTITIONS)}
        self.letters = dict.fromkeys(range(PARTITIONS), 0)
        self.snapshots = []
        ports = Ports(
            FakeSource([]), Model(), FakeSink(), FakeSnapshots(), FakeStates(), clock, FakeMetrics(),
            events=self.broker, reservations=FakeReservations(900_000.0),
        )  # fmt: skip
        settings = PipelineSettings(NO_DEADLINE, 0, 0, 1024, 16, 0.0, "champion")
        pipeline = Pipeline(ports, self.states, DecisionPolicy(self.limits, 0.05, assumed), ADMISSION, settings)
        for number, raw in enumerate(raw_batches(SOURCE, 1500, clock, seed=2)):
            if number == batches:
                break
            if number == 3:
                self.broker.commands.append((Command("limits", "", "t", "t", 0), self.limits.like(OTHER).whole()))
                self.broker.commands.append((Command("reset", "drawdown", "t", "t", 0), None))
            for part in raw.slices:
                columns = zip(
                    part.offsets,
                    part.sent_ns,
                    part.keys,
                    part.payloads,
                    part.traceparents,
                    part.appended_ns,
                    strict=True,
                )
                self.messages[part.partition] += [LoggedMessage(*message) for message in columns]
            pending = pipeline.decide(raw)
            self.snapshots += pending.snapshots
            for partition, part in pending.parts.items():
                self.take(partition, part, assumed=assumed)

    def take(self, partition, part, *, assumed):
        for stream, _, value in part.records:
            if stream is Stream.DECISIONS:
                self.decisions[partition].append(value)
            elif stream is Stream.DEAD_LETTERS:
                self.letters[partition] += 1
            elif stream is Stream.ORDERS and not assumed:
                self.broker.order(partition, value)

    def state(self, partition):
        return self.states.of(partition)

    def partitions(self):
        return [p for p in range(PARTITIONS) if self.decisions[p]]


def rebuilt(log, limits, reasons=None):
    recovery = Recovery(log, ADMISSION, limits, [].append if reasons is None else reasons.append)
    recovery.read()
    return recovery.replay()


def same(one: PartitionState, other: PartitionState):
    assert one.book.dump() == other.book.dump()
    mine, theirs = one.dump_features(), other.dump_features()
    assert mine.symbols == theirs.symbols
    np.testing.assert_array_equal(mine.ints, theirs.ints)
    np.testing.assert_array_equal(mine.floats, theirs.floats)
    assert one.book.limits.version == other.book.limits.version


@pytest.mark.parametrize("assumed", [True, False])
@pytest.mark.parametrize("batches", [1, 3, 7, 40])
def test_a_rebuild_is_what_decided(assumed, batches):
    run = Run(batches, assumed=assumed)
    assert run.partitions()
    assert batches < 40 or all(run.state(p).book.positions() for p in run.partitions())
    assert batches < 40 or assumed or any(run.broker.fills.values())
    for partition in run.partitions():
        found = rebuilt(FakeLog(run, partition), run.limits)
        assert found.next_offset == run.messages[partition][-1].offset + 1
        assert found.decisions_from == len(run.decisions[partition])
        assert found.letters == []
        same(found.state, run.state(partition))


@pytest.fixture(scope="module")
def run():
    return Run(40, assumed=False)


@pytest.fixture
def partition(run):
    return max(run.partitions(), key=lambda p: len(run.decisions[p]))


@pytest.fixture
def log(run, partition):
    return FakeLog(run, partition)


def test_a_snapshot_shortens_it_and_changes_nothing(run, partition, log):
    whole = rebuilt(FakeLog(run, partition), run.limits)
    kept = [s for s in run.snapshots if s.partition == partition]
    for snapshot in (kept[2], kept[len(kept) // 2]):
        places = [wire.place_in(payload)[1] for payload in log.published]
        since = next(k for k, place in enumerate(places) if place >= snapshot.offset)
        log.kept = [
            ("redis", encode_snapshot(msgspec.structs.replace(snapshot, decisions_from=since), FakeLog.name))
        ]
        found = rebuilt(log, run.limits)
        assert (found.snapshot, found.next_offset) == ("redis", whole.next_offset)
        assert 0 < found.ticks < whole.ticks
        same(found.state, whole.state)


def test_a_snapshot_that_does_not_fit_is_left_aside_with_its_reason(run, partition, log):
    last = next(s for s in reversed(run.snapshots) if s.partition == partition)
    ahead = encode_snapshot(msgspec.structs.replace(last, offset=log.commit + 1), FakeLog.name)
    log.kept = [("redis", b"rubbish"), ("topic", encode_snapshot(last, "another log")), ("topic", ahead)]
    reasons: list[str] = []
    found = rebuilt(log, run.limits, reasons)
    assert [next(word for word in ("digest", "another log", "ahead") if word in why) for why in reasons] == [
        "digest", "another log", "ahead",
    ]  # fmt: skip
    assert found.snapshot == "none"
    same(found.state, run.state(partition))


def test_what_was_in_flight_is_decided_again(run, partition, log):
    log.published = log.published[:-25]
    log.commit = 0
    found = rebuilt(log, run.limits)
    assert found.next_offset == wire.place_in(log.published[-1])[1] + 1


def test_a_commit_that_came_later_than_its_decisions_does_not_repeat_them(run, partition, log):
    log.commit = 5
    found = rebuilt(log, run.limits)
    assert found.next_offset == log.messages[-1].offset + 1
    same(found.state, run.state(partition))


def test_letters_after_the_commit_may_be_missing(run):
    partition = next(p for p in run.partitions() if run.letters[p])
    log = FakeLog(run, partition)
    log.commit = 0
    found = rebuilt(log, run.limits)
    assert len(found.letters) == run.letters[partition]
    assert all(letter.partition == partition for letter in found.letters)


def test_repeats_and_the_words_of_others_change_nothing(run, partition, log):
    repeated = [payload for payload in log.published for _ in range(2)]
    late = log.published[:10]
    other = [log.published[0].replace(b'{"decision_id":"market.ticks', b'{"decision_id":"other.ticks')]
    log.published = [*repeated, *late, *other]
    same(rebuilt(log, run.limits).state, run.state(partition))


def test_orders_of_ticks_that_are_gone_latch_the_drawdown(run, partition, log):
    orders = [wire.place_in(p)[1] for p in log.published if not wire.is_hold(p)]
    log.first = orders[len(orders) // 2] + 1
    found = rebuilt(log, run.limits)
    assert found.forgotten == sum(place < log.first for place in orders)
    assert "drawdown" in found.state.book.summary().latched


NO_DECISION = [b'{"neither":1}', b"", b"rubbish", b"\xff\xfe", b"[" * 10_000, b'{"decision_id":7}']


@pytest.mark.parametrize("payload", NO_DECISION)
def test_a_record_that_is_no_decision_is_set_aside_and_lets_only_exits_through(run, partition, log, payload):
    log.published.append(payload)
    found = rebuilt(log, run.limits)
    assert (found.unreadable, found.next_offset) == (1, log.messages[-1].offset + 1)
    assert found.decisions_from == len(log.published)
    assert "drawdown" in found.state.book.summary().latched
    assert found.state.book.positions() == run.state(partition).book.positions()


def test_a_decision_that_was_cut_short_is_not_decided_again(run, partition, log):
    place = next(k for k, p in reversed(list(enumerate(log.published))) if not wire.is_hold(p))
    log.published[place] = log.published[place][:200]
    found = rebuilt(log, run.limits)
    assert (found.unreadable, found.next_offset) == (1, log.messages[-1].offset + 1)
    assert "drawdown" in found.state.book.summary().latched


def test_what_a_human_has_looked_at_is_not_latched_again_by_the_next_rebuild(run, partition, log):
    log.published.insert(0, b"rubbish")  # before the reset that the run was told of
    found = rebuilt(log, run.limits)
    assert found.unreadable == 1
    same(found.state, run.state(partition))


def test_limits_that_are_not_understood_latch_the_drawdown_until_a_reset(run, partition, log):
    log.told = [(Command("limits", "of another version", "t", "t", 0), None), *log.told[1:]]
    found = rebuilt(log, run.limits)
    assert found.unknown_limits == 1
    assert "drawdown" not in found.state.book.summary().latched
    log.told = [log.told[1], log.told[0]]
    assert "drawdown" in rebuilt(log, run.limits).state.book.summary().latched


def judged_by(payload, version):
    """A decision that says that it was judged by other limits."""
    return payload.replace(wire.limits_version_in(payload), version)


def test_limits_that_the_gateway_left_aside_too_change_nothing(run, partition, log):
    """It lived over them, reducing; a rebuild is what lived, to the last bit."""
    last = wire.applied_in(wire.applied_tail(log.published[-1]))[1]
    log.told = [*log.told[:last], (Command("limits", "of another version", "t", "t", 0), None)]
    old, new = (wire.CONTROL_TO + b"%d}" % at for at in (last, last + 1))
    log.published[-5:] = [payload.removesuffix(old) + new for payload in log.published[-5:]]
    found = rebuilt(log, run.limits)
    assert found.unknown_limits == 1
    assert found.state.book.dump() == run.state(partition).book.dump()
    # Decided by who knew them, at once or later, without another word between.
    for others in (5, 3):
        again = FakeLog(run, partition)
        again.told, again.published = log.told, list(log.published)
        again.published[-others:] = [judged_by(payload, b"0123456789ab") for payload in again.published[-others:]]
        assert "drawdown" in rebuilt(again, run.limits).state.book.summary().latched


@pytest.mark.parametrize(
    "limits", [b'[{"surprise":1},"desk","",2]', b"rubbish", b'[{"version":2},"desk","",2]', b"\xff"]
)
def test_a_snapshot_of_limits_that_are_unknown_now_is_left_aside(run, partition, log, limits):
    last = next(s for s in reversed(run.snapshots) if s.partition == partition)
    log.kept = [("redis", encode_snapshot(msgspec.structs.replace(last, limits=limits), FakeLog.name))]
    reasons: list[str] = []
    found = rebuilt(log, run.limits, reasons)
    assert (found.snapshot, len(reasons)) == ("none", 1)
    same(found.state, run.state(partition))


def test_a_snapshot_whose_tables_do_not_fit_is_left_aside(run, partition, log):
    last = next(s for s in reversed(run.snapshots) if s.partition == partition)
    book = last.book
    for broken in (
        msgspec.structs.replace(book, symbols=[*book.symbols, "X"]),
        msgspec.structs.replace(book, symbols=book.symbols[:1] * len(book.symbols)),
        msgspec.structs.replace(book, tables=[t[:-1] for t in book.tables]),
        msgspec.structs.replace(book, tables=[*book.tables[:1], b"", *book.tables[2:]]),
    ):
        log.kept = [("redis", encode_snapshot(msgspec.structs.replace(last, book=broken), FakeLog.name))]
        found = rebuilt(log, run.limits)
        assert found.snapshot == "none"
        same(found.state, run.state(partition))


# ---- whose log it is ----------------------------------------------------------------------------


def test_offsets_that_were_committed_for_another_topic_of_the_name_are_refused(run, log):
    log.commit_log = "cluster/other/decisions/group"
    with pytest.raises(OtherLog, match=r"is committed to \d+ of the log cluster/other/decisions/group"):
        rebuilt(log, run.limits)


def test_ticks_that_end_before_what_is_decided_are_refused_with_both_offsets(run, log):
    log.commit, log.end = -1, 17
    with pytest.raises(OtherLog, match=rf"is decided to {log.messages[-1].offset + 1} and ends at 17"):
        rebuilt(log, run.limits)


def test_ticks_that_end_before_what_is_committed_are_refused(run, log):
    log.published, log.end = [], log.commit - 1
    with pytest.raises(OtherLog, match="and ends at"):
        rebuilt(log, run.limits)


def test_ticks_that_were_made_anew_and_have_outgrown_what_is_decided_are_known_by_a_snapshot(run, partition, log):
    last = next(s for s in reversed(run.snapshots) if s.partition == partition)
    log.commit = -1  # Kafka forgets the offsets of a topic that is deleted
    log.kept = [("kafka", encode_snapshot(last, "cluster/other/decisions/group"))]
    with pytest.raises(OtherLog, match="a snapshot of that is of the log cluster/other/decisions/group"):
        rebuilt(log, run.limits)
    # An id is base64, and may hold a slash.
    log.kept = [("kafka", encode_snapshot(last, "cluster/o/the+r/decisions/group"))]
    with pytest.raises(OtherLog, match=r"is of the log cluster/o/the\+r/decisions/group"):
        rebuilt(log, run.limits)
    # Of another desk, or where all begins anew, it says nothing.
    log.kept = [("kafka", encode_snapshot(last, "cluster/other/decisions/others"))]
    assert rebuilt(log, run.limits).snapshot == "none"
    log.kept, log.published = [("kafka", encode_snapshot(last, "cluster/other/decisions/group"))], []
    assert rebuilt(log, run.limits).next_offset == 0


def test_a_log_that_continues_another_takes_what_was_committed_and_kept_of_it(run, partition, log):
    last = next(s for s in reversed(run.snapshots) if s.partition == partition)
    earlier = "cluster/other/decisions/group"
    log.commit_log, log.kept = earlier, [("kafka", encode_snapshot(last, earlier))]
    with pytest.raises(OtherLog):
        rebuilt(log, run.limits)
    log.was = {earlier: log.commit}
    found = rebuilt(log, run.limits)
    assert found.snapshot == "kafka"
    same(found.state, run.state(partition))
    # Kafka forgets the offsets of a topic that is deleted: the snapshot is ahead of them then, and all is read.
    log.commit, log.commit_log = -1, ""
    found = rebuilt(log, run.limits)
    assert found.snapshot == "none"
    same(found.state, run.state(partition))
    # As far as was decided under it: what says more is of another past that bears its name.
    log.was = {earlier: last.offset - 1}
    with pytest.raises(OtherLog, match="a snapshot of that is of the log"):
        rebuilt(log, run.limits)
    log.commit, log.commit_log, log.kept = last.offset, earlier, []
    with pytest.raises(OtherLog, match="is committed to"):
        rebuilt(log, run.limits)
    log.was, log.commit = {earlier: log.messages[-1].offset + 1}, -1
    # Only of that one.
    log.kept = [("kafka", encode_snapshot(last, "cluster/third/decisions/group"))]
    with pytest.raises(OtherLog):
        rebuilt(log, run.limits)


def test_decisions_that_were_made_anew_under_committed_offsets_are_no_flat_book(run, log):
    log.published, log.commit_log = [], ""  # committed before logs were noted
    with pytest.raises(OtherLog, match="nothing lies in its decisions"):
        rebuilt(log, run.limits)


@pytest.mark.parametrize("committed", [True, False])
def test_what_was_deleted_before_it_was_decided_is_counted(run, log, committed):
    log.published, log.commit = log.published[:30], 40 if committed else -1
    known = max(log.commit, wire.place_in(log.published[-1])[1] + 1)
    log.first = known + 25
    found = rebuilt(log, run.limits)
    assert (found.lost, found.next_offset) == (25, log.first)
    log.first = known
    assert rebuilt(log, run.limits).lost == 0


def test_a_desk_that_is_new_has_lost_nothing_of_an_old_topic(run, log):
    log.published, log.commit, log.commit_log, log.first = [], -1, "", 50
    found = rebuilt(log, run.limits)
    assert (found.lost, found.next_offset) == (0, 50)


def test_letters_that_are_buried_are_not_buried_again_by_a_new_group(run):
    partition = next(p for p in run.partitions() if run.letters[p])
    log = FakeLog(run, partition)
    log.commit, log.commit_log = -1, ""
    everyone = [letter.offset for letter in rebuilt(log, run.limits).letters]
    assert everyone
    log.letters = set(everyone[:-1])
    assert [letter.offset for letter in rebuilt(log, run.limits).letters] == everyone[-1:]
    log.letters = set(everyone)
    assert rebuilt(log, run.limits).letters == []


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.9, 1.0])
def test_an_order_whose_tick_is_none_by_todays_rules_stays_in_the_book_in_its_place(run, partition, log, share):
    """What a version before admitted, and traded on: its own reports come after it, also those long past."""
    places = [wire.place_in(p)[1] for p in log.published if not wire.is_hold(p)]
    place = places[int(share * (len(places) - 1))]
    log.messages = [
        msgspec.structs.replace(m, payload=b'{"symbol":"A","event_time_ns":1}') if m.offset == place else m
        for m in log.messages
    ]
    found, lived = rebuilt(log, run.limits), run.state(partition)
    assert found.forgotten == 1
    assert found.state.book.positions() == lived.book.positions()
    assert found.state.book.working.dump() == lived.book.working.dump()
    # A reset that a human gave later ends the latch.
    reset = next(k for k, p in enumerate(log.published) if wire.applied_in(wire.applied_tail(p))[1] >= 2)
    is_before = place < wire.place_in(log.published[reset])[1]
    assert ("drawdown" in found.state.book.summary().latched) is not is_before


@pytest.mark.parametrize(
    "change",
    [
        lambda p: p.replace(wire.limits_version_in(p), b"\xff\xfe"),
        lambda p: p.replace(b'"decision_id":"market.ticks-', b'"decision_id":"market.ticks-' + b"9" * 5000),
        lambda p: p[: p.index(b'","symbol"')] + b"9" * 30 + p[p.index(b'","symbol"') :],
        lambda p: p[: p.rindex(wire.FILLS_TO) + len(wire.FILLS_TO)] + b"9" * 5000 + wire.CONTROL_TO + b"1}",
    ],
)
def test_an_odd_decision_never_keeps_a_gateway_from_starting(run, partition, log, change):
    log.published[-3] = change(log.published[-3])
    found = rebuilt(log, run.limits)
    assert found.next_offset == log.messages[-1].offset + 1
