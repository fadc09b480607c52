"""Exactly once: decisions, dead letters, snapshots and offsets in one Kafka transaction.

A zombie is fenced twice: its transactional id by its own successor, and its place in the group by
the group's metadata (KIP-447), which the broker checks with the offsets. Where a commit's outcome
is unknown, the decisions themselves say whether it happened: a group coordinator whose broker was
killed was seen to answer with offsets of long ago.

Two producers take turns: a broker ends a transaction some milliseconds after it has promised to,
and refuses the same producer's next one until then.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import TimeoutError as FutureTimeout
from concurrent.futures import wait
from contextlib import closing
from functools import partial
from typing import Any

import structlog

from connectors.kafka.client import KafkaError, KafkaException, Message, Producer, TopicPartition
from connectors.kafka.errors import CONTROL_TIMEOUT_S, translated
from connectors.kafka.reading import connect, read_to_end
from connectors.kafka.topics import Topics
from connectors.kafka.watermarks import Watermarks
from connectors.logs import kafka_logger
from gateway.adapters.kafka_sink import (
    SHARED,
    STALLED_AFTER_S,
    StreamEnds,
    by_stream,
    names,
    produce_all,
)
from gateway.ports import Outbox, OutgoingRecord, PartitionOutbox, Stream
from gateway.workers import Waiter
from trading.errors import ServiceUnavailable

log = structlog.get_logger()
#: Longer than a broker's restart takes; shorter than what readers of a dead gateway should wait.
TRANSACTION_TIMEOUT_MS = 5_000
STEP_S = 3.0
LIMIT_S = 4.0
TURNS = 2
RETRY_S = 0.02
#: A coordinator with nothing to end answers within this, and within so many times what it took to connect; each
#: further try may take twice as long.
FIRST_TRY_S, TRY_OVER_CONNECTING = 0.1, 1.5

#: Of each stream, where each partition ended.
Since = dict[Stream, dict[int, int]]


class TransactionalSink:
    """Implements DecisionSink; `publish` returns when the transaction is committed."""

    def __init__(
        self,
        bootstrap: str,
        topics: Topics,
        group: str,
        instance: str,
        log_name: str,
        metadata: Callable[[bool], Any],
        patience_s: float = STALLED_AFTER_S,
    ) -> None:
        """Connect, and end what a predecessor of this instance left open.

        Args:
            bootstrap: broker addresses.
            topics: where to.
            group: whose offsets are committed.
            instance: lasting name of this gateway; the transactional id.
            log_name: noted with the offsets: of a topic that is made anew they mean nothing.
            metadata: our place in the group; True asks for a newer one, which comes in a moment.
            patience_s: how long it is tried, where the brokers say that it may succeed in a moment.
        """
        self._bootstrap, self._topics, self._group, self._instance = bootstrap, topics, group, instance
        self._patience_s = patience_s
        self._names, self._log_name, self._metadata = names(topics), log_name, metadata
        #: Of what must not be published twice; the first that a transaction has tells whether it was committed.
        self._ends = {stream: StreamEnds(self._names[stream]) for stream in (Stream.DECISIONS, Stream.DEAD_LETTERS)}
        self._safe: dict[int, int] = {}
        self._producers = self._new_producers()
        self._waiters = [Waiter("transact") for _ in range(TURNS)]
        self._turn = 0

    def begin(self, partition: int, next_offset: int, decisions_from: int) -> None:
        """Start counting from here."""
        self._safe[partition] = next_offset
        self._ends[Stream.DECISIONS].begin(partition, decisions_from)
        self._ends[Stream.DEAD_LETTERS].begin(partition, 0)

    def publish(self, outbox: Outbox, wanted: Callable[[int], bool]) -> None:
        """One transaction, tried again until it is committed or nothing of it is wanted any more.

        Raises ServiceUnavailable, also where the metadata cannot be had because this member's place is taken.
        """
        deadline = time.monotonic() + self._patience_s
        # Before the first try: what one that failed has written is confirmed, too.
        since = self._since(outbox)
        while parts := {p: part for p, part in outbox.items() if wanted(p)}:
            try:
                committed = self._within(lambda: self._transact(parts, wanted))
            except KafkaException as error:
                log.warning("transaction failed", reason=error.args[0].str(), code=error.args[0].name())
                if time.monotonic() > deadline:
                    raise translated(error, "decisions cannot be published") from error
                if self._recover(error, parts, since):
                    break
                self._metadata(True)
                time.sleep(RETRY_S)
            else:
                if committed:
                    break
        for partition, part in parts.items():
            if partition in self._safe:
                self._safe[partition] = part.next_offset

    def safe(self, partition: int) -> int:
        """What is committed."""
        return self._safe.get(partition, 0)

    def decisions_from(self, partition: int) -> int:
        """After the last decision of the last transaction."""
        return self._ends[Stream.DECISIONS].of(partition)

    def committable(self) -> dict[int, int]:
        """Nothing: the transactions hold the offsets."""
        return {}

    def forget(self, partition: int) -> None:
        """No longer ours."""
        self._safe.pop(partition, None)
        for ends in self._ends.values():
            ends.forget(partition)

    def poll(self) -> None:
        """Serve what librdkafka wants to tell."""
        for producer in self._producers:
            producer.poll(0)

    def flush(self, timeout_s: float) -> None:
        """Nothing is ever left open between two calls of `publish`."""

    def _within(self, work: Callable[[], bool]) -> bool:
        """Run one transaction, and wait for it no longer than it may take; returns what it returned.

        librdkafka's own limits do not hold where a coordinator answers "loading" again and again; the
        thread that waits for it ends when its producer's successor has fenced it.
        """
        future = self._waiters[self._turn].submit(work)
        try:
            committed = future.result(LIMIT_S)
        except FutureTimeout:
            self._waiters[self._turn] = Waiter("transact")
            error = KafkaError(KafkaError._TIMED_OUT, f"no end within {LIMIT_S:.0f} s")  # noqa: SLF001
            raise KafkaException(error) from None
        finally:
            # An error that it raises holds this frame, and would by it hold a producer that is no use any more.
            del future
        self._turn = (self._turn + 1) % TURNS
        return committed

    def _transact(self, parts: Outbox, wanted: Callable[[int], bool]) -> bool:
        """Returns whether it was committed: what is not wanted any more just before is aborted."""
        producer = self._producers[self._turn]
        producer.begin_transaction()
        for partition, part in parts.items():
            self._produce(producer, partition, part)
        metadata = self._metadata(False)
        offsets = [
            TopicPartition(self._topics.ticks, p, part.next_offset, metadata=self._log_name)
            for p, part in parts.items()
        ]
        producer.send_offsets_to_transaction(offsets, metadata, STEP_S)
        # A coordinator may have stalled for seconds: an order must not become visible late, or after a stop.
        if [partition for partition in parts if not wanted(partition)]:
            producer.abort_transaction(STEP_S)
            return False
        producer.commit_transaction(STEP_S)
        return True

    def _produce(self, producer: Producer, partition: int, part: PartitionOutbox) -> None:
        for stream, messages in by_stream(part.records).items():
            if stream in self._ends:
                messages[-1]["callback"] = partial(self._report, self._ends[stream])
            produce_all(producer, self._names[stream], partition, messages, lambda: producer.poll(0.01))

    def _report(self, ends: StreamEnds, error: Any, message: Message) -> None:
        if error is None:
            ends.note(message)

    def _recover(self, error: KafkaException, parts: Outbox, since: Since) -> bool:
        """Abort, or begin anew with another producer; returns whether it was committed after all.

        A step that timed out is not repeated: after a broker's restart librdkafka may look for its
        coordinator for half a minute, and a new producer finds it at once.
        """
        producer = self._producers[self._turn]
        if error.args[0].txn_requires_abort():
            try:
                producer.abort_transaction(STEP_S)
            except KafkaException as failure:
                log.warning("abort failed", reason=failure.args[0].str())
            else:
                return False
        # What the one has met, the other would meet next.
        for old in self._producers:
            old.purge()
        self._producers = self._new_producers()
        # The old transaction is ended now, whichever way; what is to be read of it tells which.
        return self._is_committed(parts, since)

    def _is_committed(self, parts: Outbox, since: Since) -> bool:
        """Whether a record of it can be read: all of them, then. What may be there twice does not tell.

        Raises ServiceUnavailable: no answer is not "not committed", or it would be published twice.
        """
        for stream, ends in since.items():
            for partition, part in parts.items():
                last = next((record for record in reversed(part.records) if record[0] is stream), None)
                if last is not None:
                    return self._is_there(last, partition, ends[partition])
        return False

    def _is_there(self, record: OutgoingRecord, partition: int, start: int) -> bool:
        stream, key, value = record
        topic = self._names[stream]
        with closing(Watermarks(self._bootstrap)) as watermarks:
            watermarks.wait_until_settled(topic, partition, CONTROL_TIMEOUT_S)
        found = read_to_end(self._bootstrap, topic, partition, start)
        return any(m.key() == key and m.value() == value for messages in found for m in messages)

    def _since(self, outbox: Outbox) -> Since:
        return {stream: {p: ends.of(p) for p in outbox} for stream, ends in self._ends.items()}

    def _new_producers(self) -> list[Producer]:
        """One a turn, at once: each waits for the brokers alone."""
        waiters = [Waiter("connect") for _ in range(TURNS)]
        made = [waiter.submit(partial(self._new_producer, turn)) for turn, waiter in enumerate(waiters)]
        # Also where one fails: whatever comes next has the names of those that are still being made.
        _, waiting = wait(made, self._patience_s + 3 * min(CONTROL_TIMEOUT_S, self._patience_s))
        try:
            if waiting:
                raise ServiceUnavailable("no transaction can be begun: Kafka's coordinator comes to no end")
            return [one.result() for one in made]
        finally:
            made.clear()

    def _new_producer(self, turn: int) -> Producer:
        """One that may begin transactions: whatever a predecessor has left open is ended.

        While a broker ends that it refuses the new one for a few milliseconds, and librdkafka asks again half a
        second later; another producer asks at once. A coordinator that stalls may read what the first has asked
        after the second's: that is fenced then, which its first transaction meets, and both are made anew.
        """
        longest_s = min(CONTROL_TIMEOUT_S, self._patience_s)
        deadline, tried_s = time.monotonic() + self._patience_s, FIRST_TRY_S
        while True:
            producer = self._unused_producer(turn)
            try:
                began = time.monotonic()
                is_there = connect(producer, self._topics.decisions, longest_s)
                tried_s = max(tried_s, TRY_OVER_CONNECTING * (time.monotonic() - began))
                # Where no broker answers another producer is no quicker.
                producer.init_transactions(min(tried_s, longest_s) if is_there else longest_s)
            except KafkaException as error:
                if not error.args[0].retriable() or time.monotonic() > deadline:
                    raise translated(error, "no transaction can be begun") from error
                # It is gone before its successor begins, which it would fence.
                del producer
                tried_s *= 2.0
                time.sleep(RETRY_S)
            else:
                return producer

    def _unused_producer(self, turn: int) -> Producer:
        return Producer(
            {
                **SHARED,
                "bootstrap.servers": self._bootstrap,
                "transactional.id": f"{self._group}.{self._instance}.{turn}",
                "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS,
                "message.timeout.ms": TRANSACTION_TIMEOUT_MS,
                "linger.ms": 0,
            },
            logger=kafka_logger(),
        )
