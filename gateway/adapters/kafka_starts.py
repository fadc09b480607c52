"""What a gateway says of itself, on record before its first decision."""

from __future__ import annotations

import time

from msgspec.structs import replace

from connectors.kafka.writing import write_one
from trading.encoding import encode
from trading.models.serving import GatewayStart, ServingFacts


class Starts:
    """Tells which version is asked, by what, and with which settings."""

    def __init__(self, bootstrap: str, topic: str, start: GatewayStart) -> None:
        """Nothing is told yet; `start` is what stays the same while the gateway runs."""
        self._bootstrap, self._topic, self._start = bootstrap, topic, start

    def tell(self, event: str, version: str, serving: ServingFacts) -> None:
        """Write it. Raises ServiceUnavailable where it does not reach the log: nobody decides unrecorded."""
        told = replace(self._start, event=event, at_ns=time.time_ns(), model_version=version, serving=serving)
        # Twice says the same: a start need not wait for a producer's number.
        write_one(self._bootstrap, self._topic, encode(told), told.instance, "what a start tells", once=False)
