"""A log to which nobody writes, and one that is away, tell the same; who reads decisions tells them apart."""

from __future__ import annotations

import time
from contextlib import closing

import pytest

from services.experiments.desk_log import AT_ONCE_PACE, KafkaDecisions
from stack.processes.gateway import SeriesTopics
from stack.servers.kafka import create_topics
from stack.servers.ports import free_ports
from trading.errors import ServiceUnavailable

SILENT_S = 1.0


def test_a_quiet_log_is_waited_for(stack):
    topics = SeriesTopics("quiet", "quiet.ticks")
    create_topics(stack, topics.names)
    log = KafkaDecisions(stack.kafka_bootstrap, topics.topics, {0: 0}, AT_ONCE_PACE, silent_s=SILENT_S)
    with closing(log):
        until = time.monotonic() + 3 * SILENT_S
        while time.monotonic() < until or not log.at_end(0):
            assert log.payloads(0.2) == {}


def test_a_log_that_is_away_is_named():
    topics = SeriesTopics("away", "away.ticks").topics
    log = KafkaDecisions(f"127.0.0.1:{free_ports(1)[0]}", topics, {0: 0}, AT_ONCE_PACE, silent_s=SILENT_S)
    with closing(log), pytest.raises(ServiceUnavailable, match=rf"{topics.decisions}\[0\] cannot be read"):
        while True:
            assert log.payloads(0.2) == {}
