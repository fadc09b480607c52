"""What a gateway says of itself: on record before its first decision, and as it asks another version."""

from __future__ import annotations

import threading
import time
from queue import SimpleQueue

import structlog
from msgspec.structs import replace

from connectors.kafka.writing import write_one
from trading.encoding import encode
from trading.models.serving import GatewayStart, ServingFacts

log = structlog.get_logger()
AGAIN_S = 5.0


class Starts:
    """Tells which version is asked, by what, and with which settings."""

    def __init__(self, bootstrap: str, topic: str, start: GatewayStart) -> None:
        """Nothing is told yet; `start` is what stays the same while the gateway runs."""
        self._bootstrap, self._topic, self._start = bootstrap, topic, start
        #: Versions that are not on record yet, in their order.
        self._waiting: SimpleQueue[GatewayStart] = SimpleQueue()
        self._writer: threading.Thread | None = None

    def tell(self, version: str, serving: ServingFacts) -> None:
        """Write that it begins. Raises ServiceUnavailable where it does not reach the log."""
        self._write(self._told("start", version, serving))

    def tell_of_next(self, version: str, serving: ServingFacts) -> None:
        """Write that another version is asked from now on, in a thread, until the log has it.

        The desk does not wait: the version before may be gone, and without a model nothing is decided.
        """
        self._waiting.put(self._told("version", version, serving))
        # One for all: the log's last word must be the newest.
        if self._writer is None:
            self._writer = threading.Thread(target=self._write_on, name="starts", daemon=True)
            self._writer.start()

    def _told(self, event: str, version: str, serving: ServingFacts) -> GatewayStart:
        return replace(self._start, event=event, at_ns=time.time_ns(), model_version=version, serving=serving)

    def _write(self, told: GatewayStart) -> None:
        # Twice says the same: nobody need wait for a producer's number.
        write_one(self._bootstrap, self._topic, encode(told), told.instance, "what a start tells", once=False)

    def _write_on(self) -> None:
        while True:
            self._until_written(self._waiting.get())

    def _until_written(self, told: GatewayStart) -> None:
        while True:
            try:
                self._write(told)
            # Whatever it is: what decides must be on record.
            except Exception as error:  # noqa: BLE001
                log.warning("a version that is asked is not on record yet", reason=str(error)[:200])
                time.sleep(AGAIN_S)
            else:
                return
