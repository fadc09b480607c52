"""A desk is put aside with ticks that nobody has decided, deleted, and restored: it decides as it would have."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from connectors.kafka.topics import TOPICS
from loadtest.open_loop.publisher import TickPublisher
from loadtest.open_loop.schedule import Speed, plan
from stack.chaos.evidence import PublishedLog, read_trail
from stack.chaos.feed import wait_until_decided
from stack.drill.desk import Desk
from stack.drill.recovery import CATCH_UP_S, GROUP, ends_of, undecided
from stack.drill.table import UNDECIDED, Restored
from trading.errors import ServiceUnavailable
from trading.history import open_source

SOURCE = f"simulate:regimes?seed=17&ticks={UNDECIDED}&symbols=3"
#: Whenever a tick is decided, and however late: the same, and no fill of a broker comes between.
PATIENT = {
    "ULTRATHINK_GATEWAY_BUDGET_MS": "86400000",
    "ULTRATHINK_GATEWAY_SHED_BELOW_MS": "0",
    "ULTRATHINK_GATEWAY_EXECUTION": "assumed",
}
#: What commands of training write into a home folder.
OF_TRAINING = {"datasets", "reports", "training"}
MB = 1 << 20


def put_aside_and_restore(desk: Desk, folder: Path, show: Callable[[str], None]) -> Restored:
    """The same desk twice from one backup. Raises ServiceUnavailable for a step that fails."""
    show("ends, and takes ticks that nobody decides")
    desk.ran("stack", "down")
    desk.ran("stack", "up", "--profile", "servers", **PATIENT)
    planned = plan(open_source(SOURCE).records(), Speed("constant", rate_hz=500.0))
    TickPublisher(desk.settings.kafka_bootstrap, TOPICS.ticks).publish(planned, shift_to_now=True)
    lies = undecided(desk)
    show("is put aside")
    began = time.monotonic()
    told = json.loads(desk.ran("stack", "backup", os.fspath(folder), "--stop", "--json"))
    backup_s = time.monotonic() - began
    show("goes on, and decides them")
    wanted = decided(desk)
    show("is deleted, and restored")
    desk.ran("stack", "down", "--purge")
    clear(desk.home)
    began = time.monotonic()
    desk.ran("stack", "restore", os.fspath(folder))
    restore_s = time.monotonic() - began
    show("decides them again")
    found = decided(desk)
    places = wanted.evidence.keys() | found.evidence.keys()
    return Restored(
        decisions=len(wanted.evidence),
        undecided=lies,
        different=sum(wanted.evidence.get(place) != found.evidence.get(place) for place in places)
        + len(found.repeated)
        + len(found.disordered)
        + found.unreadable
        + (wanted.letters != found.letters),
        verified=is_verified(desk),
        backup_mb=round(sum(told["parts"].values()) / MB, 1),
        backup_s=round(backup_s, 1),
        restore_s=round(restore_s, 1),
    )


def clear(home: Path) -> None:
    """Delete what training left. Raises ServiceUnavailable where anything of a desk is left."""
    left = {path.name for path in home.iterdir()} if home.exists() else set()
    if left - OF_TRAINING:
        raise ServiceUnavailable(f"{', '.join(sorted(left - OF_TRAINING))} is left in {home}, which was deleted")
    shutil.rmtree(home, ignore_errors=True)


def is_verified(desk: Desk) -> bool:
    """Whether the trail is what was signed."""
    try:
        desk.ran("forensics", "verify", "--json")
    except ServiceUnavailable:
        return False
    return True


def decided(desk: Desk) -> PublishedLog:
    """Everything, once the whole desk is up and nothing is undecided."""
    desk.ran("stack", "up", "--profile", "full")
    if not wait_until_decided(desk.settings, GROUP, TOPICS.ticks, ends_of(desk), CATCH_UP_S):
        raise ServiceUnavailable(f"the ticks were not all decided within {CATCH_UP_S:.0f} s")
    return read_trail(desk.settings.kafka_bootstrap, TOPICS.decisions, TOPICS.dead_letters)
