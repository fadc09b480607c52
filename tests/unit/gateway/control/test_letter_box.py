"""Dead letters are grouped by what is common to their reasons."""

from __future__ import annotations

from gateway.control.letter_box import FoundLetter, general, summarise
from trading.dead_letters import dead_letter


def found(reason, at_ns, replayed=False):
    return FoundLetter(dead_letter("market.ticks", 0, at_ns, reason, None, b"x"), at_ns, replayed)


def test_numbers_do_not_tell_reasons_apart():
    assert general("5000 bytes, more than the 4096 that a tick may have") == (
        "… bytes, more than the … that a tick may have"
    )
    assert general("unknown symbol ABC: it is not among the 12 listed ones") == general(
        "unknown symbol X: it is not among the 3 listed ones"
    )


def test_the_most_frequent_comes_first_with_its_span():
    lines = summarise([found("no payload", 5), found("9 bytes", 2, replayed=True), found("8 bytes", 7)])
    assert [(s.reason, s.count, s.replayed, s.first_ns, s.last_ns, s.last_place) for s in lines] == [
        ("… bytes", 2, 1, 2, 7, "0-7"),
        ("no payload", 1, 0, 5, 5, "0-5"),
    ]
