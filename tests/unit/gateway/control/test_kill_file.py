"""A file kills the desk at once and for all; removing it resumes nothing."""

from __future__ import annotations

import time

from gateway.control import kill_file
from gateway.control.kill_file import KillFile
from tests.fakes import FakeStates
from tests.waiting import eventually
from trading.errors import ServiceUnavailable
from trading.risk.trading_state import TradingState


def test_the_file_kills_and_the_latch_stays_when_it_is_gone(tmp_path):
    path, states, told = tmp_path / "kill", FakeStates(), []

    def latch(why):
        told.append(why)
        states.state = TradingState.KILLED

    found = KillFile(path, states, latch)
    try:
        assert found.trading_state() is TradingState.ACTIVE
        path.touch()
        eventually(lambda: found.trading_state() is TradingState.KILLED)
        eventually(lambda: told == [f"{path} exists"])
        path.unlink()
        time.sleep(0.3)
        assert found.trading_state() is TradingState.KILLED
        states.state = TradingState.ACTIVE  # a human resumed
        eventually(lambda: found.trading_state() is TradingState.ACTIVE)
        assert len(told) == 1
    finally:
        found.close()


def test_while_nobody_can_be_told_this_gateway_is_killed_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(kill_file, "AGAIN_S", 0.01)
    path, tries = tmp_path / "kill", []

    def latch(why):
        tries.append(why)
        raise ServiceUnavailable("nobody is there")

    path.touch()
    found = KillFile(path, FakeStates(), latch)
    try:
        assert found.trading_state() is TradingState.KILLED
        eventually(lambda: len(tries) > 3)
        path.unlink()
        time.sleep(0.1)
        assert found.trading_state() is TradingState.KILLED
    finally:
        found.close()


def test_a_file_that_cannot_be_looked_at_counts_as_there(tmp_path):
    looped = tmp_path / "a"
    looped.symlink_to(looped)
    found = KillFile(looped, FakeStates(), lambda _: None)
    try:
        assert found.trading_state() is TradingState.KILLED
    finally:
        found.close()
    assert not kill_file.is_there(tmp_path / "none")
    (tmp_path / "file").touch()
    assert not kill_file.is_there(tmp_path / "file" / "below")
