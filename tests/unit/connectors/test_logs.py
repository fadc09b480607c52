"""A flood of one event is cut short and counted; the level can be changed."""

from __future__ import annotations

import pytest
import structlog

from connectors.logs import LogLevel, RateLimit


def test_a_flood_is_cut_and_the_next_window_says_how_much_was_left_out():
    now = [0.0]
    limit = RateLimit(burst=3, window_s=10.0, now_s=lambda: now[0])
    passed = 0
    for _ in range(20):
        try:
            limit(None, "warning", {"event": "gone"})
        except structlog.DropEvent:
            continue
        passed += 1
    assert passed == 3
    limit(None, "warning", {"event": "another"})
    now[0] = 10.0
    assert limit(None, "warning", {"event": "gone"})["left_out"] == 17


def test_the_level_drops_what_lies_below_it():
    level = LogLevel("warning")
    with pytest.raises(structlog.DropEvent):
        level(None, "info", {"event": "x"})
    level.set("debug")
    assert level(None, "info", {"event": "x"}) == {"event": "x"}
    with pytest.raises(ValueError, match="loud"):
        level.set("loud")
