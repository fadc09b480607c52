"""Hand-written fakes of the trail's ports, one each."""

from __future__ import annotations

from contextlib import contextmanager

from services.forensics.merkle.tree import GrowingTree
from services.forensics.ports import LogHead, LogName, Stored, Tail
from services.forensics.records import Record, leaf_of
from trading.errors import ServiceUnavailable


def record(offset, value=b"{}"):
    return Record(offset, 2, 1_764_000_000_000 + offset, b"A", value)


class FakeSource:
    """Logs in memory; each read gives one chunk. `down` refuses so many calls."""

    def __init__(self, logs):
        #: topic -> (id, role, records of partition 0, first offset)
        self.topics = logs
        self.places, self.down, self.started, self.stop_after = {}, 0, 0, None

    def _answer(self):
        if self.down:
            self.down -= 1
            raise ServiceUnavailable("no broker")

    def logs(self):
        self._answer()
        return {LogName(topic_id, 0, topic): role for topic, (topic_id, role, _) in self.topics.items()}

    def topic_ids(self):
        self._answer()
        return {topic: topic_id for topic, (topic_id, _, _) in self.topics.items()}

    def bounds(self, name):
        self._answer()
        kept = self.topics[name.topic][2]
        return (kept[0].offset, kept[-1].offset + 1) if kept else (0, 0)

    def committed(self, name, start, stop):
        self._answer()
        return iter([r for r in self.topics[name.topic][2] if start <= r.offset < stop])

    def start(self, places):
        self.places, self.started = dict(places), self.started + 1

    def read(self, count, timeout_s):
        self._answer()
        found = {}
        for name, at in self.places.items():
            ready = [r for r in self.topics[name.topic][2] if r.offset >= at][:count]
            if ready:
                found[name] = ready
                self.places[name] = ready[-1].offset + 1
        if not found and self.stop_after is not None:
            self.stop_after()
        return found


class FakeTrail:
    """A trail in memory, with the same promise: a record at a known place is compared."""

    def __init__(self):
        self.heads, self.kept, self.alarms, self.checkpoints, self.down = {}, {}, [], [], 0

    def _answer(self):
        if self.down:
            self.down -= 1
            raise ServiceUnavailable("no database")

    def open(self, name, kind):
        self._answer()
        return self.heads.setdefault(name, LogHead(len(self.heads) + 1, name, kind, GrowingTree(), 0))

    def begins_with(self, name, size, root):
        self._answer()
        tree = GrowingTree()
        for leaf in list(self.kept[name].values())[:size]:
            tree.append(leaf)
        return tree.root() == root

    @contextmanager
    def tail(self, name, size, root):
        self._answer()
        rows = list(self.kept.get(name, {}).items())
        tree = GrowingTree()
        for _, leaf in rows[:size]:
            tree.append(leaf)
        after = ((offset, size + k, leaf) for k, (offset, leaf) in enumerate(rows[size:]))
        yield Tail(tree, rows[size - 1][0] + 1 if size else 0, after) if tree.root() == root else None

    def on_record(self):
        self._answer()
        return {name: head.kind for name, head in self.heads.items()}

    def store(self, records):
        self._answer()
        new, different = 0, []
        for name, mine in records.items():
            head, kept = self.heads[name], self.kept.setdefault(name, {})
            for one in mine:
                if one.offset < head.next_offset:
                    if kept.get(one.offset) != leaf_of(one):
                        different.append((name, one))
                    continue
                kept[one.offset] = leaf_of(one)
                head.tree.append(kept[one.offset])
                head.next_offset, new = one.offset + 1, new + 1
        return Stored(new, tuple(different))

    def raise_alarm(self, alarm):
        self._answer()
        self.alarms.append(alarm)

    def keep_checkpoint(self, number, signed_at_ns, line):
        self._answer()
        self.checkpoints.append((number, line))

    def last_checkpoint(self):
        self._answer()
        return self.checkpoints[-1][1] if self.checkpoints else None

    def checkpoints_after(self, number):
        self._answer()
        return [line for known, line in self.checkpoints if known > number]

    def wipe(self):
        """As a database that was lost."""
        self.heads, self.kept, self.checkpoints = {}, {}, []


class FakeLines:
    """Implements Lines; `down` refuses so many calls of `append`."""

    def __init__(self):
        self.kept, self.down = [], 0

    def append(self, line):
        if self.down:
            self.down -= 1
            raise ServiceUnavailable("no broker")
        self.kept.append(line)

    def lines(self):
        return iter(self.kept)

    def last(self):
        return self.kept[-1] if self.kept else None
