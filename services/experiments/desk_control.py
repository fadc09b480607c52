"""The desk's control topic as experiments see it: followed from its beginning, and told to stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

from connectors.kafka.client import KafkaException, TopicPartition
from connectors.kafka.errors import CONTROL_TIMEOUT_S, translated
from connectors.kafka.messages import as_bytes, is_end, offset_of, usable
from connectors.kafka.reading import FOLLOWING_MS, consume_ready, reader
from connectors.kafka.writing import write_one
from services.experiments.desk_log import AT_ONCE, GROUP
from trading.control import InForce
from trading.encoding import encode, safe_text
from trading.errors import ServiceUnavailable
from trading.events import Command
from trading.experiments.register import WATCHER as BY
from trading.experiments.register import Experiment, ExperimentWord

#: Of a reason.
MOST_REASON = 500
MS = 1_000_000


class KafkaExperiments:
    """Implements ExperimentControl."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        """Read what there is.

        Args:
            bootstrap: broker addresses.
            topic: of commands.

        Raises:
            ServiceUnavailable: it cannot be read.
        """
        self._bootstrap, self._topic = bootstrap, topic
        self._in_force, self._at_end = InForce(), False
        self._appended_ns: dict[int, int] = {}
        self._lock = threading.Lock()
        self._consumer = reader(bootstrap, GROUP, waits_ms=FOLLOWING_MS)
        self._consumer.assign([TopicPartition(topic, 0, 0)])
        quiet_since = time.monotonic()
        while not self._at_end:
            if self.follow(0.1):
                quiet_since = time.monotonic()
            if time.monotonic() - quiet_since > CONTROL_TIMEOUT_S:
                self.close()
                raise ServiceUnavailable(f"{topic} on {bootstrap} cannot be read: nothing came for 10 s")

    def follow(self, timeout_s: float) -> int:
        """Take what has come; returns how many records. Raises ServiceUnavailable."""
        try:
            messages = consume_ready(self._consumer, AT_ONCE, timeout_s)
        except KafkaException as error:
            raise translated(error, f"{self._topic} cannot be read") from error
        for message in messages:
            if is_end(message):
                self._at_end = True
            elif usable(message):
                self._appended_ns[offset_of(message)] = message.timestamp()[1] * MS
                self._in_force.take(offset_of(message), as_bytes(message.value()))
        return len(messages)

    def experiments(self) -> Mapping[str, Experiment]:
        """As they stand; another object where anything changed."""
        return self._in_force.experiments.experiments

    def appended_ns(self, offset: int) -> int:
        """Of a command that was taken."""
        return self._appended_ns[offset]

    def stop(self, name: str, reason: str) -> None:
        """Put the champion back. It may be written twice: the second changes nothing. Raises ServiceUnavailable."""
        word = encode(ExperimentWord("stop", name)).decode()
        command = Command("experiment", word, safe_text(reason)[:MOST_REASON], BY, time.time_ns())
        with self._lock:
            write_one(self._bootstrap, self._topic, encode(command), command.kind, "the stop", once=False)

    def close(self) -> None:
        """Disconnect."""
        self._consumer.close()


class KafkaJournal:
    """Implements ExperimentJournal: what happened to experiments, on record."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        """Nothing was written yet."""
        self._bootstrap, self._topic, self._lock = bootstrap, topic, threading.Lock()

    def note(self, experiment: str, event: str, reason: str) -> None:
        """Write it, once. Raises ServiceUnavailable."""
        told = {
            "experiment": experiment, "event": event, "at_ns": time.time_ns(), "by": BY,
            "reason": safe_text(reason)[:MOST_REASON],
        }  # fmt: skip
        with self._lock:
            write_one(self._bootstrap, self._topic, encode(told), experiment, "what happened")
