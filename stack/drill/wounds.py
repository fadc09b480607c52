"""Faults that leave something behind: made last, on the desk that was restored, which is thrown away."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from connectors.kafka.admin import delete_before
from connectors.kafka.topics import TOPICS
from connectors.kafka.watermarks import bounds
from connectors.postgres import connect_url
from stack.drill.desk import Desk
from stack.drill.faults import REASON, Fault
from stack.servers.settings import LOOPBACK

#: Until Prometheus has looked twice.
SEEN_S = 15.0
CHANGE = """UPDATE trail.decisions SET value = %s
WHERE (log, leaf_index) IN (SELECT log, max(leaf_index) FROM trail.decisions GROUP BY log)"""


@contextmanager
def ticks_deleted(desk: Desk) -> Iterator[None]:
    """Ticks are deleted while the gateway hangs, before it has read them."""
    bootstrap = desk.settings.kafka_bootstrap
    with desk.suspended("gateway"):
        # What it has fetched already it decides; a record more than that is lost.
        time.sleep(SEEN_S)
        ends = {p: bounds(bootstrap, TOPICS.ticks, p)[1] for p in range(desk.settings.partitions)}
        delete_before(bootstrap, TOPICS.ticks, {p: end for p, end in ends.items() if end})
        time.sleep(SEEN_S)
    # It decides on from what it still holds, and finds out when it reads again from where it stands.
    desk.kill("gateway")
    yield
    desk.ran("gateway", "resume", *REASON)


@contextmanager
def trail_changed(desk: Desk) -> Iterator[None]:
    """A record of the trail is no longer what was signed; nobody mends that but a person."""
    address = f"{LOOPBACK}:{desk.settings.ports.postgres}/ultrathink"
    # What is last must be so still when it starts again: of older ones only `forensics verify` tells.
    with desk.suspended("forensics"):
        with connect_url(f"postgresql://postgres:{desk.settings.secret('postgres-admin')}@{address}") as connection:
            connection.execute(CHANGE, (b"{}",))
        desk.kill("forensics")
    yield


WOUNDS: tuple[Fault, ...] = (
    Fault("ticks deleted before they were decided", ("TicksLost", "RetentionNear"), ticks_deleted, lasting_min=10),
    Fault("a record of the trail changed", ("TamperFound", "CheckpointMissing"), trail_changed, lasting_min=60),
)
