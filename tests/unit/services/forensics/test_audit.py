"""What is read is stored before it is committed, and once."""

from __future__ import annotations

import threading

from services.forensics import audit
from services.forensics.audit import follow
from services.forensics.ports import Kept
from trading.errors import ServiceUnavailable
from trading.trace import Traced

KNOWN = b'{"decision_id":"market.ticks-0-1","decided_at_ns":5,"trace_id":"0af7651916cd43dd8448eb211c80319c"}'
UNTRACED = b'{"decision_id":"market.ticks-0-2","decided_at_ns":6}'


class FakeReader:
    """Gives its batches, then stops the loop."""

    def __init__(self, batches, stopping, journal):
        self.batches, self.stopping, self.journal = list(batches), stopping, journal

    def read(self, count, timeout_s):
        if not self.batches:
            self.stopping.set()
            return []
        return self.batches.pop(0)

    def commit(self):
        self.journal.append("commit")


class FakeArchive:
    """Keeps payloads, each once; is down for so many calls, and then stops the loop if it is told to."""

    def __init__(self, journal, down=0):
        self.journal, self.down, self.kept = journal, down, set()

    def store(self, payloads):
        if self.down:
            self.down -= 1
            self.journal.append("refused")
            raise ServiceUnavailable("decisions cannot be stored")
        before = len(self.kept)
        self.kept |= set(payloads)
        self.journal.append("store")
        return Kept(len(self.kept) - before)


class FakeTracer:
    def __init__(self):
        self.recorded: list[Traced] = []

    def wants(self, trace_id):
        return True

    def record(self, traced):
        self.recorded.append(traced)


def run(batches, *, down=0, stop_after=None):
    stopping, journal, tracer, turns = threading.Event(), [], FakeTracer(), []
    archive = FakeArchive(journal, down)

    def progress(count):
        turns.append(count)
        if len(turns) == stop_after:
            stopping.set()

    kept = follow(FakeReader(batches, stopping, journal), archive, stopping, progress, tracer)
    return kept, journal, tracer, turns


def test_what_comes_again_is_stored_once_and_each_batch_is_kept_before_it_is_committed():
    kept, journal, _, turns = run([[KNOWN], [], [KNOWN, UNTRACED]])
    assert kept == Kept(2)
    assert journal == ["store", "commit", "store", "commit"]
    # A turn without decisions shows that the consumer lives.
    assert turns == [1, 1, 2, 2]


def test_an_archive_that_is_away_is_waited_for_and_nothing_is_lost(monkeypatch):
    monkeypatch.setattr(audit, "FIRST_PAUSE_S", 0.001)
    kept, journal, _, turns = run([[KNOWN], [UNTRACED]], down=4)
    assert kept == Kept(2)
    assert journal == [*["refused"] * 4, "store", "commit", "store", "commit"]
    # Whoever watches sees that it lives meanwhile.
    assert turns[:4] == [0, 0, 0, 0]


def test_stopped_while_it_waits_it_commits_nothing(monkeypatch):
    monkeypatch.setattr(audit, "FIRST_PAUSE_S", 0.001)
    assert run([[KNOWN]], down=1000, stop_after=3)[:2] == (Kept(), ["refused"] * 3)


def test_only_decisions_of_a_trace_are_recorded_from_when_they_were_decided():
    _, _, tracer, _ = run([[KNOWN, UNTRACED, b"rubbish", b"\xff"]])
    (found,) = tracer.recorded
    assert (found.trace_id, found.begin_ns) == ("0af7651916cd43dd8448eb211c80319c", 5)
    assert found.attributes == {"ultrathink.decision_id": "market.ticks-0-1"}
