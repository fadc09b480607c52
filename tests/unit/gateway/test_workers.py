"""A thread that has died is told; what may never end is waited for by nobody."""

from __future__ import annotations

import contextlib
import gc
import subprocess
import sys
import threading
import time
import weakref

import pytest

from gateway.workers import Waiter, Worker


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


def test_what_is_submitted_is_done_in_order_and_what_it_raises_is_raised_where_it_is_waited_for():
    done = []

    def fail():
        raise ValueError("no more")

    waiter = Waiter("transact")
    waiter.submit(lambda: done.append(1))
    failed = waiter.submit(fail)
    last = waiter.submit(lambda: [*done, 2])
    with pytest.raises(ValueError, match="no more"):
        failed.result(5.0)
    assert last.result(5.0) == [1, 2]


def test_a_waiter_that_nobody_has_ends_once_its_work_is_done():
    going_on = threading.Event()
    waiter = Waiter("nobody waits for this one")
    future = waiter.submit(going_on.wait)
    (thread,) = (t for t in threading.enumerate() if t.name == "nobody waits for this one")
    del waiter
    assert thread.is_alive()
    going_on.set()
    assert future.result(5.0)
    thread.join(5.0)
    assert not thread.is_alive()


@pytest.mark.parametrize("fails", [False, True])
def test_what_a_waiter_was_given_is_not_kept(fails):
    """What failed is a producer whose place another has taken: it must not wait for a collection of cycles."""

    class Owner:
        def __init__(self):
            self.waiter = Waiter("owned")

        def work(self):
            if fails:
                raise ValueError("no more")

        def run(self):
            future = self.waiter.submit(self.work)
            try:
                future.result(5.0)
            finally:
                del future

    gc.disable()
    try:
        owner = Owner()
        gone = weakref.ref(owner)
        with contextlib.suppress(ValueError):
            owner.run()
        del owner
        deadline = time.monotonic() + 5.0
        while gone() is not None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert gone() is None
    finally:
        gc.enable()


def test_a_process_ends_whatever_its_waiter_waits_for():
    """The threads of a `ThreadPoolExecutor` are joined at exit, daemons or not."""
    text = (
        "import threading; from gateway.workers import Waiter; w = Waiter('w'); "
        "w.submit(threading.Event().wait); print('done')"
    )
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "done\n"
