"""Which partitions were heard of: what is no message and no end tells nothing."""

from __future__ import annotations

from contextlib import closing

import pytest
from confluent_kafka import KafkaError, KafkaException

from connectors.kafka.topics import TOPICS
from services.experiments.desk_log import AT_ONCE_PACE, KafkaDecisions
from trading.errors import ServiceUnavailable


class Passing:
    """A message that says that a fetch failed, for now."""

    def error(self):
        return KafkaError(KafkaError._TRANSPORT)

    def partition(self):
        return 0

    def offset(self):
        return -1001

    def value(self):
        return None


class AwayConsumer:
    """Tells of a passing error, again and again."""

    def __init__(self):
        self.asked = 0

    def poll(self, timeout):
        return Passing()

    def consume(self, count, timeout):
        return []

    def get_watermark_offsets(self, partition, timeout):
        self.asked += 1
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT))

    def close(self):
        """Nothing."""


def test_a_partition_that_only_tells_of_errors_was_not_heard_of():
    log = KafkaDecisions("127.0.0.1:1", TOPICS, {0: 0}, AT_ONCE_PACE, silent_s=0.2)
    log.close()
    log._consumer = AwayConsumer()
    with closing(log), pytest.raises(ServiceUnavailable, match=r"\[0\] cannot be read"):
        while not log._consumer.asked:
            log.payloads(0.05)
    assert not log.at_end(0)
