"""Everything that is published goes into the trail, once, and is signed; what should not be raises an alarm."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeVar

import structlog
from msgspec import Struct

from services.forensics.checkpoints import TreeHead
from services.forensics.comparing import SHOWN, compare_log
from services.forensics.kinds import BY_ROLE
from services.forensics.ports import Alarm, LogHead, LogName, Observer, Source, Trail
from services.forensics.records import Record
from services.forensics.signing import Signer
from trading.errors import ServiceUnavailable

log = structlog.get_logger()
#: Records that are stored together, at most, and how long the first of them waits for others.
BATCH, GATHER_S, POLL_S = 4000, 0.25, 0.25
#: Between two tries, doubled up to the longest.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 5.0
#: At its start so many offsets of each log are read again and compared.
OVERLAP = 200
#: A broker that has just come back may not know yet how far its log is committed.
SETTLING_S = 5.0
#: Between two calls of what is done beside records.
BESIDE_S = 1.0
LOOK_S = 10.0
#: Alarms of one kind in one turn: a log that was forked differs from there on.
MOST_ALARMS = 20

Answer = TypeVar("Answer")
Arrived = Mapping[LogName, Sequence[Record]]


class Progress(Struct):
    """So far."""

    stored: int = 0
    alarms: int = 0


class Recorder:
    """One loop in one thread; `run` until told to stop."""

    def __init__(
        self,
        source: Source,
        trail: Trail,
        signer: Signer,
        observer: Observer,
        stopping: threading.Event,
        *,
        now_ns: Callable[[], int] = time.time_ns,
        look_s: float = LOOK_S,
        beside: Sequence[Callable[[], Sequence[Alarm]]] = (),
    ) -> None:
        """Nothing is read yet.

        `look_s` is between two looks at what may have come beside records: partitions, and what was accepted;
        `beside` is called about once a second, and returns alarms: it may raise ServiceUnavailable.
        """
        self._look_s = look_s
        self._source, self._trail, self._signer, self._observer = source, trail, signer, observer
        self._stopping, self._now_ns, self._beside = stopping, now_ns, beside
        self._heads: dict[LogName, LogHead] = {}
        self._reading: frozenset[LogName] = frozenset()
        self._opened = False
        #: What was read and is not stored yet, and alarms that are not.
        self._arrived: dict[LogName, list[Record]] = {}
        self._alarms: list[Alarm] = []
        self._stored_to: dict[LogName, int] = {}
        self._roots: dict[LogName, bytes] = {}
        self._unproven: dict[LogName, tuple[int, str]] = {}
        #: Of logs that are lost: as they were signed last.
        self._carried: dict[LogName, TreeHead] = {}
        self._accepted: frozenset[str] = frozenset()
        self._beside_at_s = self._looked_at_s = 0.0
        self.progress = Progress()

    def run(self) -> Progress:
        """Record until stopped; whoever does not answer is waited for, and nothing is lost meanwhile."""
        while not self._stopping.is_set():
            self._patiently("it goes on", self._turn)
        return self.progress

    def _patiently(self, what: str, step: Callable[[], Answer]) -> Answer | None:
        """Try until it is done; None where it was stopped before. A step may break off anywhere and begin anew."""
        pause_s = FIRST_PAUSE_S
        while not self._stopping.is_set():
            try:
                return step()
            except ServiceUnavailable as error:
                log.warning("forensics waits", until=what, reason=str(error)[:300])
                self._observer.turn(self.progress.stored, str(error))
            self._stopping.wait(pause_s)
            pause_s = min(2.0 * pause_s, LONGEST_PAUSE_S)
        return None

    def _begin(self) -> None:
        """Open every log, look whether it is the one that was stored, and read on."""
        self._opened, self._arrived, self._carried = False, {}, {}
        self._looked_at_s = time.monotonic()
        self._accepted = self._signer.accepted()
        self._raise(*self._signer.begin())
        logs = self._source.logs()
        # A topic that is no more keeps its place in every checkpoint.
        known = self._trail.on_record()
        kinds = {**known, **{name: BY_ROLE[role].name for name, role in logs.items()}}
        self._heads = {name: self._trail.open(name, kind) for name, kind in kinds.items()}
        self._tell_made_anew(known, logs.keys() - known.keys())
        self._compare_with_signed(logs)
        self._prove()
        places = {name: self._place(self._heads[name]) for name in logs}
        self._compare_with_kafka(logs)
        self._stored_to = {name: head.next_offset for name, head in self._heads.items()}
        self._roots = {name: head.tree.root() for name, head in self._heads.items()}
        self._source.start(places)
        self._reading, self._opened = frozenset(places), True

    def _tell_made_anew(self, known: Collection[LogName], new: Collection[LogName]) -> None:
        """A topic of a known name and another id, whether it was made while somebody looked or not."""
        for name in sorted(new):
            for before in (one for one in known if (one.topic, one.partition) == (name.topic, name.partition)):
                said = f"{name} was made anew: it was {before.topic_id} and is {name.topic_id}; both are on record"
                self._raise(Alarm("topic_recreated", said, before, self._heads[before].next_offset))

    def _compare_with_signed(self, logs: Collection[LogName]) -> None:
        """What is stored must be what was signed, with more or not yet as much; and come from somewhere."""
        self._unproven = {}
        signed = self._signer.expected()
        for name, last in signed.items():
            head = self._heads.get(name)
            size = 0 if head is None else head.tree.size
            if name not in logs and last.size > size:
                self._carried[name] = last
                said = f"of {last.size} signed records of {name} the trail has {size}, and Kafka has no such log"
                self._refuse("root_differs", said, name)
            elif head is None:
                continue
            elif name not in logs and size > last.size:
                self._carried[name] = last
                said = f"{size - last.size} records of {name} were not signed before Kafka lost it, and are not now"
                self._raise(Alarm("trail_cut", said, name))
            elif last.size >= head.tree.size:
                self._unproven[name] = last.size, last.root
            elif last.size and not self._trail.begins_with(name, last.size, bytes.fromhex(last.root)):
                self._differs(name, last.size)
        for name in sorted(self._heads.keys() - signed.keys() - set(logs)):
            if size := self._heads[name].tree.size:
                root = self._heads[name].tree.root().hex()[:SHOWN]
                said = f"{size} records of {name} are neither in Kafka nor were ever signed ({root})"
                self._refuse("root_differs", said, name)

    def _compare_with_kafka(self, logs: Collection[LogName]) -> None:
        """What is stored and not signed must be what Kafka has there, record by record, before it is signed."""
        signed = self._signer.expected()
        for name in sorted(logs):
            found = compare_log(self._heads[name], signed.get(name), self._trail, self._source, self._lives)
            if found.differs:
                self._refuse("root_differs", found.differs, name)
            if found.damaged:
                self._damaged(name, found.damaged)

    def _lives(self, compared: int) -> None:
        """While it compares. Raises ServiceUnavailable where it was stopped meanwhile."""
        self._observer.turn(self.progress.stored, f"{compared} unsigned records are compared" if compared else "")
        if self._stopping.is_set():
            raise ServiceUnavailable("it was stopped while it compared")

    def _place(self, head: LogHead) -> int:
        """Where to read on: a little before the end of what is stored, so that it is compared."""
        first, end = self._source.bounds(head.name)
        deadline = time.monotonic() + SETTLING_S
        while end < head.next_offset and time.monotonic() < deadline and not self._stopping.wait(0.2):
            self._observer.turn(self.progress.stored, f"{head.name} is shorter than what is stored of it")
            first, end = self._source.bounds(head.name)
        if end < head.next_offset:
            said = f"{head.name} ends at offset {end}, and records up to {head.next_offset - 1} are in the trail"
            self._raise(Alarm("log_cut", said, head.name, end))
        if first > head.next_offset:
            said = f"{head.name} begins at {first}: its records from {head.next_offset} on were deleted unrecorded"
            self._raise(Alarm("records_gone", said, head.name, first))
        return min(max(first, head.next_offset - OVERLAP), max(first, end))

    def _turn(self) -> None:
        """Store what has come, sign it, and publish what was released."""
        if self._opened and time.monotonic() - self._looked_at_s >= self._look_s:
            self._look()
        if not self._opened or self._trail_moved():
            self._begin()
        if not self._arrived:
            try:
                self._arrived = self._gather()
            except ServiceUnavailable:
                # What was to be read may be gone, and what was read with it is not stored.
                self._opened = False
                raise
        if self._arrived and not self._is_of_these_logs():
            return
        while self._arrived and self._opened:
            self._store()
        self._raise()
        self._sign()
        self._do_beside()
        self._observer.turn(self.progress.stored, "")

    def _look(self) -> None:
        """Partitions that were added, and alarms that somebody has looked at: everything is opened anew then."""
        self._looked_at_s = time.monotonic()
        if self._source.logs().keys() != self._reading or (
            self._signer.refuses and self._signer.accepted() != self._accepted
        ):
            self._opened = False

    def _gather(self) -> dict[LogName, list[Record]]:
        """What has come; after the first record others are waited for, asleep, so that few batches hold many."""
        found: dict[LogName, list[Record]] = {}
        count, timeout_s = 0, POLL_S
        while count < BATCH and (arrived := self._source.read(BATCH - count, timeout_s)):
            for name, records in arrived.items():
                found.setdefault(name, []).extend(records)
                count += len(records)
            if timeout_s:
                timeout_s = 0.0
                # Of a backlog there are enough at once.
                if count < BATCH // 4:
                    self._stopping.wait(GATHER_S)
        return found

    def _is_of_these_logs(self) -> bool:
        """Whether the topics are still those that were opened; else everything is opened anew."""
        ids = self._source.topic_ids()
        self._opened = all(ids.get(name.topic) == name.topic_id for name in self._reading)
        return self._opened

    def _trail_moved(self) -> bool:
        """Whether the database, after a new connection, holds less than was stored there, or more."""
        moved = [
            name
            for name, head in self._heads.items()
            if (head.next_offset, head.tree.root()) != (self._stored_to[name], self._roots[name])
        ]
        for name in moved:
            before, now = self._stored_to[name], self._heads[name].next_offset
            if now < before:
                said = f"the trail of {name} reached offset {before - 1} and now ends before {now}"
                self._raise(Alarm("trail_cut", said, name, now))
        return bool(moved)

    def _store(self) -> None:
        """Store; what follows a size that was signed before is left for another time, so that its root is seen."""
        now, rest = self._cut(self._arrived)
        done = self._trail.store(now)
        self._arrived = rest
        self._tell_different(done.different)
        for name, records in now.items():
            head, before = self._heads[name], self._stored_to[name]
            self._stored_to[name], self._roots[name] = head.next_offset, head.tree.root()
            self._observer.stored(head.kind, [r for r in records if r.offset >= before])
        self.progress.stored += done.new
        self._prove()

    def _tell_different(self, different: Sequence[tuple[LogName, Record]]) -> None:
        """Some of them one by one."""
        for name, record in different[:MOST_ALARMS]:
            said = f"another record came at offset {record.offset} of {name} than the one that is in the trail"
            self._raise(Alarm("different_record", said, name, record.offset, record.value))
        if rest := different[MOST_ALARMS:]:
            name, record = rest[-1]
            self._raise(
                Alarm("different_record", f"so are {len(rest)} more, up to offset {record.offset} of {name}", name)
            )

    def _cut(self, arrived: Mapping[LogName, list[Record]]) -> tuple[Arrived, dict[LogName, list[Record]]]:
        now, rest = {}, {}
        for name, records in arrived.items():
            head, known = self._heads[name], 0
            end = len(records)
            if name in self._unproven:
                known = sum(r.offset < head.next_offset for r in records)
                end = known + self._unproven[name][0] - head.tree.size
            now[name] = records[:end]
            if records[end:]:
                rest[name] = records[end:]
        return now, rest

    def _prove(self) -> None:
        """Compare roots with those that were signed, where trees have grown to that size again."""
        for name, (size, root) in list(self._unproven.items()):
            head = self._heads[name]
            if head.tree.size == size:
                del self._unproven[name]
                if head.tree.root().hex() != root:
                    self._differs(name, size)

    def _differs(self, name: LogName, size: int) -> None:
        """Nothing is signed any more: it would say that this trail is the one that was signed before."""
        self._damaged(name, f"the first {size} records of {name} are not those that were signed")

    def _damaged(self, name: LogName, said: str) -> None:
        """Nobody can accept this."""
        self._signer.refuses = f"{said}: build the trail again from Kafka, in an empty database"
        self._raise(Alarm("root_differs", self._signer.refuses, name))

    def _refuse(self, kind: str, said: str, name: LogName) -> None:
        """The same until somebody has looked, and accepts it."""
        if said in self._accepted:
            log.warning("accepted by somebody who has looked", detail=said)
            return
        self._signer.refuses = said
        self._raise(Alarm(kind, said, name))

    def _sign(self) -> None:
        refuses = f"{len(self._unproven)} logs are not yet as far as they were signed" if self._unproven else ""
        if not refuses:
            heads = [head for name, head in self._heads.items() if name not in self._carried]
            self._signer.sign(heads, self._now_ns(), self._carried.values())
        # By an earlier life too: for how long nothing was signed is seen after a restart.
        last = self._signer.last
        self._observer.signed(0 if last is None else last.signed_at_ns, refuses or self._signer.refuses)

    def _do_beside(self) -> None:
        if time.monotonic() - self._beside_at_s < BESIDE_S:
            return
        self._beside_at_s = time.monotonic()
        for one in self._beside:
            try:
                alarms = one()
            except ServiceUnavailable as error:
                # Records do not wait for it.
                log.warning("what is done beside records waits", reason=str(error)[:300])
            else:
                self._raise(*alarms)

    def _raise(self, *alarms: Alarm) -> None:
        """Say it at once, and keep it as soon as the database takes it."""
        for alarm in alarms:
            self.progress.alarms += 1
            log.error("alarm", kind=alarm.kind, detail=alarm.detail)
            self._observer.alarm(alarm)
        self._alarms += alarms
        while self._alarms:
            self._trail.raise_alarm(self._alarms[0])
            self._alarms.pop(0)
