"""Each process is killed while ticks come: how soon it is back, and how soon ticks are decided again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial

import psutil

from connectors.kafka.topics import TOPICS
from connectors.kafka.watermarks import Watermarks, bounds
from loadtest.open_loop.watcher import DecisionWatcher
from stack.chaos.evidence import read_trail
from stack.chaos.feed import wait_until_decided
from stack.chaos.recovery import Fault, recovered_after
from stack.drill.desk import Desk
from stack.drill.table import Counted, Recovery
from stack.servers.model_processes import model_of
from stack.supervision.status import READY
from trading.errors import ServiceUnavailable

BACK_S, CATCH_UP_S, ASK_S = 90.0, 180.0, 10.0
GROUP = "gateway"
#: Of the models that the gateway asks: its process is the one that a kernel short of memory ends.
MODEL = "a model's process"


def recoveries(desk: Desk, model: str, show: Callable[[str], None]) -> list[Recovery]:
    """Kill one after the other, `model`'s own process among them."""
    names = [row.name for row in desk.status().services]
    found = []
    with watching(desk) as watcher:
        for name in names:
            show(f"{name} killed")
            found.append(recovery(desk, watcher, name, name, partial(desk.kill, name)))
        show("a model's process killed")
        found.append(recovery(desk, watcher, MODEL, "triton", partial(kill_model, desk, model)))
    return found


@contextmanager
def watching(desk: Desk) -> Iterator[DecisionWatcher]:
    """Reads what is decided."""
    # Whose broker is killed would say so ten times a second.
    watcher = DecisionWatcher(desk.settings.kafka_bootstrap, TOPICS.decisions, log_level=0)
    try:
        yield watcher
    finally:
        watcher.close()


def recovery(desk: Desk, watcher: DecisionWatcher, what: str, name: str, kill: Callable[[], None]) -> Recovery:
    """Kill, and wait for both."""
    try:
        desk.wait_until_ready()
        since, before = ends_of(desk), desk.row(name).restarts
        wall = time.time_ns()
        kill()
    except (ServiceUnavailable, psutil.Error):
        # The one before has not come back: the others are tried all the same.
        return Recovery(what, None, None)

    def decided() -> float:
        after = desk.patiently(partial(ends_of, desk), BACK_S)
        return recovered_after(watcher, Fault(since, after, wall, 0.0), len(since), BACK_S)

    with ThreadPoolExecutor(1) as beside:
        back = beside.submit(desk.wait, partial(is_back, desk, name, before), f"{name} to come back", BACK_S)
        return Recovery(what, within(decided), within(back.result))


def is_back(desk: Desk, name: str, before: int) -> bool:
    """Whether a process answers that was started again since it had been so often."""
    row = desk.row(name)
    return row.restarts > before and row.state == READY


def within(wait: Callable[[], float]) -> float | None:
    """The seconds that something took; None where it was given up."""
    try:
        return round(wait(), 1)
    except ServiceUnavailable:
        return None


def kill_model(desk: Desk, model: str) -> None:
    """SIGKILL of the process that computes a model. Raises ServiceUnavailable where there is none."""
    for child in desk.process("triton").children(recursive=True):
        if model_of(child.cmdline(), desk.settings.model_repository) == model:
            child.kill()
            return
    raise ServiceUnavailable(f"no process of Triton computes {model}")


def ends_of(desk: Desk) -> dict[int, int]:
    """Partition -> next offset of the ticks, of those that have any. Raises ServiceUnavailable."""
    ends = {p: bounds(desk.settings.kafka_bootstrap, TOPICS.ticks, p)[1] for p in range(desk.settings.partitions)}
    return {p: end for p, end in ends.items() if end}


def undecided(desk: Desk) -> int:
    """Ticks that no gateway has finished. Raises ServiceUnavailable."""
    ends = ends_of(desk)
    with closing(Watermarks(desk.settings.kafka_bootstrap, GROUP)) as watermarks:
        done = {p: watermarks.committed(TOPICS.ticks, p, ASK_S)[0] for p in ends}
    return sum(end - max(0, done[p]) for p, end in ends.items())


def counted(desk: Desk) -> Counted:
    """What became of every tick; those that are not decided in time are missing."""
    ends = ends_of(desk)
    wait_until_decided(desk.settings, GROUP, TOPICS.ticks, ends, CATCH_UP_S)
    log = read_trail(desk.settings.kafka_bootstrap, TOPICS.decisions, TOPICS.dead_letters)
    places = {(p, offset) for p, end in ends.items() for offset in range(end)}
    missing = len(places - log.evidence.keys() - log.letters.keys())
    repeated = len(log.repeated) + len(log.evidence.keys() & log.letters.keys()) + log.unreadable
    return Counted(len(places), len(log.evidence), len(log.letters), missing, repeated, len(log.disordered))
