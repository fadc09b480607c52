"""Reads published decisions for the audit trail."""

from __future__ import annotations

from connectors.kafka.client import Consumer, KafkaError, KafkaException
from connectors.kafka.errors import Meaning, meaning, passes, translated
from connectors.kafka.messages import usable


class DecisionReader:
    """A read-committed consumer whose offsets move only when `commit` says so."""

    def __init__(self, bootstrap: str, group: str, topic: str) -> None:
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": group,
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "isolation.level": "read_committed",
                "log_level": 3,
            }
        )
        self._consumer.subscribe([topic])

    def read(self, count: int, timeout_s: float) -> list[bytes]:
        """Up to `count` payloads; fewer, or none, when the time is over."""
        messages = self._consumer.consume(count, timeout_s)
        return [m.value() or b"" for m in messages if usable(m)]

    def commit(self) -> None:
        """All that was read is stored. Raises ServiceUnavailable.

        Who was away from the group for long, because the archive was, reads again: what is stored is known.
        """
        try:
            self._consumer.commit(asynchronous=False)
        except KafkaException as error:
            said = error.args[0]
            if meaning(said) is Meaning.FENCED or passes(said) or said.code() == KafkaError._NO_OFFSET:  # noqa: SLF001 - its name
                return
            raise translated(error, "audit offsets were not committed") from error

    def close(self) -> None:
        """Leave the group."""
        self._consumer.close()
