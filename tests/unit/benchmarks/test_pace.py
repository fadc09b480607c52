"""How quick a machine was: measured at once, again and again, and no more after the end."""

from __future__ import annotations

import threading

from benchmarks.pace import Pacer, paced
from tests.waiting import eventually


def test_it_is_measured_at_once_and_again_until_the_end():
    with paced(every_s=0.001) as pacer:
        assert pacer.pace().best_ms > 0.0
        eventually(lambda: pacer.count > 2)
    found = pacer.pace()
    assert found.best_ms <= found.median_ms <= found.worst_ms
    assert "pace" not in {thread.name for thread in threading.enumerate()}


def test_one_that_ends_at_once_has_one_measure():
    with paced(every_s=3600.0) as pacer:
        pass
    found = pacer.pace()
    assert pacer.count == 1
    assert found.best_ms == found.median_ms == found.worst_ms
    assert "(1.0 times the best)" in str(found)
    assert isinstance(pacer, Pacer)
