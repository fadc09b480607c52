"""What is read is stored before it is committed, and once."""

from __future__ import annotations

import threading

from services.forensics.audit import follow
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
    """Keeps payloads, each once; may be down."""

    def __init__(self, journal, down=False):
        self.journal, self.down, self.kept = journal, down, set()

    def store(self, payloads):
        if self.down:
            raise ServiceUnavailable("decisions cannot be stored")
        before = len(self.kept)
        self.kept |= set(payloads)
        self.journal.append("store")
        return len(self.kept) - before


class FakeTracer:
    def __init__(self):
        self.recorded: list[Traced] = []

    def wants(self, trace_id):
        return True

    def record(self, traced):
        self.recorded.append(traced)


def run(batches, *, down=False):
    stopping, journal, tracer, turns = threading.Event(), [], FakeTracer(), []
    archive = FakeArchive(journal, down)
    reader = FakeReader(batches, stopping, journal)
    try:
        stored = follow(reader, archive, stopping, turns.append, tracer)
    except ServiceUnavailable:
        stored = None
    return stored, journal, tracer, turns


def test_what_comes_again_is_stored_once_and_each_batch_is_kept_before_it_is_committed():
    stored, journal, _, turns = run([[KNOWN], [], [KNOWN, UNTRACED]])
    assert stored == 2
    assert journal == ["store", "commit", "store", "commit"]
    # A turn without decisions shows that the consumer lives.
    assert turns == [1, 1, 2, 2]


def test_what_could_not_be_stored_is_not_committed():
    assert run([[KNOWN]], down=True)[:2] == (None, [])


def test_only_decisions_of_a_trace_are_recorded_from_when_they_were_decided():
    _, _, tracer, _ = run([[KNOWN, UNTRACED]])
    (found,) = tracer.recorded
    assert (found.trace_id, found.begin_ns) == ("0af7651916cd43dd8448eb211c80319c", 5)
    assert found.attributes == {"ultrathink.decision_id": "market.ticks-0-1"}
