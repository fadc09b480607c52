"""A source is sent once as it was recorded, or again and again as if it happened now; decisions are kept whole."""

from __future__ import annotations

import os
import sys
from itertools import islice

import msgspec
import numpy as np
import pytest

from loadtest.errors import InvalidInput, InvalidRun
from loadtest.open_loop import schedule, sender
from loadtest.open_loop.child_process import Child
from loadtest.open_loop.reader import SEEN, WHOLE, Rows
from loadtest.open_loop.replay import collect
from loadtest.open_loop.schedule import Speed, until
from tests.unit.gateway.test_pipeline import Bench, quotes
from tests.unit.loadtest.measuring.test_latencies import Message
from trading.decision.wire import place
from trading.encoding import encode
from trading.errors import UltraThinkError
from trading.features.definitions import WARM_TICKS
from trading.history import open_source
from trading.market import Tick

SOURCE = "simulate:calm?ticks=50&symbols=2"


def spec(**given):
    return {"source": SOURCE, "limit": None, "as_recorded": False, "speed": "2x", **given}


def test_what_was_recorded_is_sent_once_and_as_it_was(monkeypatch):
    # What is held at once bounds memory only: what comes beyond is read while it is sent.
    monkeypatch.setattr(sender, "MAX_HELD", 7)
    recorded = list(open_source(SOURCE).records())
    arrived, ticks = sender.prepare(spec(as_recorded=True), 3)
    assert [msgspec.json.decode(t.at(123), type=Tick) for t in ticks] == [r.tick for r in recorded]
    assert arrived.tolist() == [r.arrival_ns for r in recorded]
    arrived, ticks = sender.prepare(spec(as_recorded=True, limit=9), 3)
    assert len(arrived) == len(list(ticks)) == 9


@pytest.mark.parametrize(("speed", "limit", "count"), [("2000/s", None, 50), ("max", 9, 9), ("2x", None, 50)])
def test_a_schedule_ends_with_its_ticks(monkeypatch, speed, limit, count):
    monkeypatch.setattr(schedule, "CHUNK", 16)
    arrived, ticks = sender.prepare(spec(as_recorded=True, speed=speed, limit=limit), 3)
    lasting = sender.Lasting(ticks, until(Speed.parse(speed).arrivals(0, arrived), limit=limit, duration_s=None))
    sent = [(at, next(lasting).at(0)) for chunk in lasting.schedule() for at in chunk.tolist()]
    recorded = [r.tick for r in islice(open_source(SOURCE).records(), count)]
    assert [msgspec.json.decode(payload, type=Tick) for _, payload in sent] == recorded
    assert [at for at, _ in sent] == sorted(at for at, _ in sent)


def test_what_happens_now_begins_anew_and_keeps_its_partition():
    recorded = [r.tick for r in islice(open_source(SOURCE).records(), 10)]
    arrived, ticks = sender.prepare(spec(limit=10), 3)
    found = list(islice(ticks, 25))
    assert len(arrived) == 10
    sent = [msgspec.json.decode(t.at(1000 + k), type=Tick) for k, t in enumerate(found)]
    assert [t.event_time_ns for t in sent] == list(range(1000, 1025))
    assert [t.symbol for t in sent] == [recorded[k % 10].symbol for k in range(25)]
    assert found[0].partition == found[10].partition


def test_both_sides_of_a_run_are_read_back(tmp_path):
    decisions = Bench([quotes(WARM_TICKS + 5)]).run()[:4]
    places = [place(d.decision_id) for d in decisions]
    base = places[0][1]
    meant = [10**9 + k * 10**6 for k in range(5)]
    # A sender that falls behind: a tick a millisecond was meant, and one in two was sent.
    np.array([(at, at + 5 + k * 10**6) for k, at in enumerate(meant)], np.int64).tofile(tmp_path / "sent_0.bin")
    np.zeros((0, 2), np.int64).tofile(tmp_path / "sent_1.bin")
    payloads = [encode(d) for d in decisions]
    messages = [Message(p) for p in payloads]
    with (tmp_path / SEEN).open("wb") as seen, (tmp_path / WHOLE).open("wb") as whole:
        rows = Rows(seen, {0: base, 1: 7}, whole)
        rows.add(messages[:3], 2 * 10**9)
        rows.add(messages[3:], 3 * 10**9)
        with pytest.raises(InvalidRun, match="no decision"):
            rows.add([Message(b"no decision")], 4 * 10**9)
        rows.write()
    found = collect(tmp_path, {"0": base, "1": 7}, as_meant=True)
    assert found.payloads == payloads
    assert found.visible_ns == [2 * 10**9] * 3 + [3 * 10**9]
    assert found.intended_ns == {(0, base + k): at for k, at in enumerate(meant)}
    assert round(found.per_s) == 500
    assert collect(tmp_path, {"0": base}, as_meant=False).intended_ns[0, base] == meant[0] + 5


def test_nothing_that_was_sent_is_a_sentence(tmp_path):
    np.zeros((0, 2), np.int64).tofile(tmp_path / "sent_0.bin")
    with pytest.raises(UltraThinkError, match="no tick was sent"):
        collect(tmp_path, {"0": 7}, as_meant=True)


def test_what_is_not_held_is_read_a_few_at_a_time():
    read = []

    def ticks():
        for k in range(40):
            read.append(k)
            yield k

    lasting = sender.Lasting(ticks(), iter([np.arange(4096)]))
    first = next(lasting.schedule())
    assert len(first) == len(read) == sender.PIECE


@pytest.mark.parametrize(
    ("raised", "expected"), [("ServiceUnavailable", InvalidRun), ("SourceError", InvalidInput)]
)
def test_a_childs_sentence_says_whose_fault_it_is(tmp_path, monkeypatch, raised, expected):
    module = f"from loadtest.open_loop.child_process import run\nfrom trading.errors import {raised}\n"
    module += f"def work(spec, orders):\n    raise {raised}('a sentence')\nrun(work)\n"
    (tmp_path / "blaming.py").write_text(module)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    child = Child("blaming", {}, lambda _: None)
    try:
        with pytest.raises(InvalidRun, match="a sentence") as found:
            child.expect("done", 30.0)
    finally:
        child.close()
    assert found.type is expected
