"""Two configurations in turns: how long that takes."""

from __future__ import annotations

import re

from loadtest.open_loop.drive import Load
from stack.cli.loadtest.searches import foretell
from stack.workflows.loadtest.configuration import Configuration, seconds_of_turns

LOAD = Load("", "simulate:regimes?seed=1", "500/s", None, 15.0, 5.0)


def test_turns_desks_and_commits_each_take_their_time():
    default, fused = Configuration.parse("default"), Configuration.parse("model=trading_decision_fused")
    few, many = (seconds_of_turns([default, fused], LOAD, turns) for turns in (2, 5))
    # A turn is a run of each: what is sent, and a gateway that comes and goes.
    assert (many - few) / 3 >= 2 * 20.0
    assert seconds_of_turns([default, Configuration.parse("brokers=3")], LOAD, 2) > few + 60.0
    assert seconds_of_turns([default, Configuration.parse("commit=HEAD~1")], LOAD, 2) > few


def test_what_so_many_turns_can_show_is_said_before_they_begin(capsys):
    foretell(290.0, 5)
    said = " ".join(capsys.readouterr().err.split())
    assert re.match(r"5 runs of each take about 5 min; the smallest difference .* of p50 6 % and of p99 13 %", said)
    foretell(100.0, 1)
    assert "give --turns 3 or more" in " ".join(capsys.readouterr().err.split())
