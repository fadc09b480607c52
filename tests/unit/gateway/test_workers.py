"""A thread that has died is told."""

from __future__ import annotations

import threading

from gateway.workers import Worker


def test_what_a_thread_died_of_is_told():
    def work():
        raise ValueError("no more")

    worker = Worker("control", work)
    assert worker.problem == ""  # it has not begun
    worker.start()
    worker.join(5.0)
    assert worker.problem == "thread control has ended (ValueError: no more)"


def test_a_thread_that_works_is_no_problem_and_one_that_ended_by_itself_is():
    ending = threading.Event()
    worker = Worker("fills", ending.wait)
    worker.start()
    assert worker.problem == ""
    ending.set()
    worker.join(5.0)
    assert worker.problem == "thread fills has ended"
