"""The supervisor's loop lives whatever fails in it, and who requires whom says in which order things end."""

from __future__ import annotations

import dataclasses
import threading

from stack.servers.server import Service
from stack.servers.settings import ServerPorts, StackSettings
from stack.supervision import supervisor as module
from stack.supervision.status import read_status
from stack.supervision.supervisor import Supervisor, unrequired
from tests.waiting import eventually


def service(name, **more) -> Service:
    return dataclasses.replace(
        Service(name=name, endpoint="", ports=(), command=list, probe=str, memory_limit_mb=1), **more
    )


def test_whom_nobody_needs_ends_first_and_a_group_is_needed_as_a_whole():
    running = [
        service("kafka-1"), service("kafka-2"), service("redis"), service("broker", requires=("kafka",)),
        service("gateway", requires=("kafka", "redis"), uses=("broker",)),
    ]  # fmt: skip
    assert unrequired(running) == {"gateway"}
    assert unrequired(running[:-1]) == {"broker", "redis"}
    assert unrequired(running[:2]) == {"kafka-1", "kafka-2"}
    # Who need one another end together, rather than never.
    assert unrequired([service("a", requires=("b",)), service("b", requires=("a",))]) == {"a", "b"}


def test_what_fails_in_a_turn_is_told_and_the_next_turn_comes(tmp_path, monkeypatch):
    StackSettings(home=tmp_path, profile="servers", ports=ServerPorts.automatic()).save()
    monkeypatch.setattr(module, "services", lambda _: [])
    fails = [True]

    def take(_):
        if fails[0]:
            raise OSError(24, "Too many open files")
        return []

    monkeypatch.setattr(module.requests, "take", take)

    def problems():
        status = read_status(tmp_path)
        return None if status is None else status.problems

    stopping = threading.Event()
    thread = threading.Thread(target=Supervisor(tmp_path).run, args=(stopping,))
    thread.start()
    try:
        eventually(lambda: "Too many open files" in "".join(problems() or ()), 20)
        fails[0] = False
        eventually(lambda: problems() == [], 20)
    finally:
        stopping.set()
        thread.join(10)
    assert not thread.is_alive()
