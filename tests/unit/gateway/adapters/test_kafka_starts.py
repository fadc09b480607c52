"""What a gateway says of itself is in the log in the order in which it said it."""

from __future__ import annotations

import threading

from gateway.adapters.kafka_starts import Starts
from tests.unit.services.forensics.test_gateway_starts import START
from tests.waiting import eventually
from trading.errors import ServiceUnavailable


class Written(Starts):
    """Written nowhere; the first try of version 2 fails."""

    def __init__(self):
        super().__init__("nowhere", "starts", START)
        self.versions, self.failures, self.told = [], 1, threading.Event()

    def _write(self, told):
        if told.model_version == "2" and self.failures:
            self.failures -= 1
            # Meanwhile the next one is told of.
            self.told.wait(10.0)
            raise ServiceUnavailable("the broker is away")
        self.versions.append(told.model_version)


def test_versions_are_on_record_in_the_order_in_which_they_were_asked(monkeypatch):
    monkeypatch.setattr("gateway.adapters.kafka_starts.AGAIN_S", 0.05)
    starts = Written()
    starts.tell_of_next("2", START.serving)
    starts.tell_of_next("3", START.serving)
    starts.told.set()
    eventually(lambda: len(starts.versions) == 2)
    assert starts.versions == ["2", "3"]
