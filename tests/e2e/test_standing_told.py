"""`ultrathink positions`, `orders` and `pnl`, from a real desk's topics."""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from contextlib import ExitStack

import pytest
from typer.testing import CliRunner

from stack.cli.main import app
from stack.processes.broker import running_broker
from stack.processes.own import running
from tests.e2e.test_whose_log import Desk
from tests.waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("exported")]
CLI = CliRunner()
TICKS = 900


class Told:
    """Commands that look at a desk."""

    def __init__(self, desk, monkeypatch, **more):
        self.desk = desk
        monkeypatch.setenv("ULTRATHINK_HOME", str(desk.stack.home))
        for name, value in {**desk.topics.settings(), **more}.items():
            monkeypatch.setenv(f"ULTRATHINK_GATEWAY_{name.upper()}", str(value))

    def run(self, *words):
        done = CLI.invoke(app, [*words])
        assert done.exit_code == 0, done.output
        return done

    def json(self, *words):
        return json.loads(self.run(*words, "--json").stdout)

    def decisions(self):
        return self.json("decisions", "list", "--last", "5000")


@pytest.fixture(scope="module")
def alone(stack, exported):
    """A desk without a broker."""
    one = Desk(stack)
    one.decide(TICKS)
    return one


@pytest.fixture(scope="module")
def brokered(stack, exported):
    """A desk whose broker fills, in parts, and refuses some."""
    one = Desk(stack)
    topics = one.topics.topics
    given = {
        "group": f"{one.topics.series}-broker", "orders_topic": topics.orders, "fills_topic": topics.fills,
        "control_topic": topics.control, "reject_share": 0.2, "latency_ms": 5,
    }  # fmt: skip
    gateway = one.gateway
    one.gateway = lambda **more: gateway(execution="broker", **more)
    with running_broker(stack, **given):
        one.decide(TICKS)
        one.decide(TICKS, seed=2)
    return one


def test_without_a_broker_the_last_decisions_say_what_is_held(alone, monkeypatch):
    told = Told(alone, monkeypatch)
    last = {one["symbol"]: one for one in told.decisions()}
    found = told.json("positions")
    assert {one["holding"]["symbol"]: one["holding"]["quantity"] for one in found["symbols"]} == {
        symbol: pytest.approx(one["position_after"]) for symbol, one in last.items()
    }
    assert any(one["holding"]["quantity"] for one in found["symbols"])
    done = told.run("orders")
    assert not done.stdout
    assert "counts as filled when it is decided" in " ".join(done.stderr.split())


def test_profit_is_that_of_the_orders_at_the_prices_of_now(alone, monkeypatch):
    told = Told(alone, monkeypatch)
    cash, marks, held = defaultdict(float), {}, defaultdict(float)
    for one in told.decisions():
        marks[one["symbol"]] = one["mid_price"] or marks.get(one["symbol"])
        cash[one["symbol"]] -= one["quantity"] * (one["reference_price"] or 0.0)
        held[one["symbol"]] += one["quantity"]
    found = told.json("pnl")
    assert {one["holding"]["symbol"]: one["holding"]["profit"] for one in found["symbols"]} == {
        symbol: pytest.approx(cash[symbol] + held[symbol] * marks[symbol], abs=1e-6) for symbol in marks
    }
    assert found["profit"] == pytest.approx(sum(one["holding"]["profit"] for one in found["symbols"]))
    symbol = found["symbols"][0]["holding"]["symbol"]
    shown = told.run("pnl", "--symbol", symbol).stdout
    assert symbol in shown
    assert "together, in the account's currency" in shown


def test_orders_carry_what_the_broker_said_and_positions_are_its_fills(brokered, monkeypatch):
    told = Told(brokered, monkeypatch, execution="broker")
    orders = eventually(lambda: [o for o in told.json("orders", "--last", "5000") if o["state"] != "working"])
    wanted = {d["decision_id"]: d for d in told.decisions() if d["action"] != "hold"}
    assert {o["order_id"] for o in orders} <= set(wanted)
    assert {o["state"] for o in orders} >= {"filled", "rejected"}
    for one in orders:
        assert one["quantity"] == wanted[one["order_id"]]["quantity"]
        assert one["ended_ms"] >= 0
        assert (one["average_price"] is None) == (one["filled"] == 0)
    assert told.json("orders", "--last", "3") == orders[-3:]
    assert told.json("orders", "--working") == []
    filled = defaultdict(float)
    for one in orders:
        filled[one["symbol"]] += one["filled"]
    # What the book has heard of by its last tick; the last orders' fills came after it.
    found = {one["holding"]["symbol"]: one["holding"] for one in told.json("positions", "--all")["symbols"]}
    for symbol, quantity in filled.items():
        held = found[symbol]
        assert -held["selling"] - 1e-9 <= quantity - held["quantity"] <= held["buying"] + 1e-9
    assert any(one["fees"] > 0 for one in found.values())


def test_a_desk_that_decides_meanwhile_is_told_of_all_the_same(stack, exported, monkeypatch):
    desk = Desk(stack)
    told = Told(desk, monkeypatch)
    feeding = threading.Thread(target=lambda: desk.publish(16_000, seed=5))
    with running(desk.gateway()) as process:
        process.wait_for_partitions()
        feeding.start()
        eventually(lambda: told.json("positions", "--all")["symbols"], 20.0)
        seen = []
        while feeding.is_alive():
            seen.append(sum(one["decided_to"] for one in told.json("positions")["books"]))
        feeding.join()
    assert len(seen) > 2
    assert seen == sorted(seen)
    assert seen[0] < seen[-1]


def test_what_there_is_not_is_said(alone, monkeypatch):
    told = Told(alone, monkeypatch)
    assert "has never seen NOSUCH" in told.run("positions", "--symbol", "NOSUCH").stderr
    with ExitStack() as away:
        away.enter_context(pytest.MonkeyPatch.context()).setenv("ULTRATHINK_GATEWAY_DECISIONS_TOPIC", "no.such")
        done = CLI.invoke(app, ["pnl"])
    assert "no.such" in str(done.exception)
    done = CLI.invoke(app, ["pnl", "--address", "http://127.0.0.1:1"])
    assert "give --since" in str(done.exception)
    done = CLI.invoke(app, ["pnl", "--since", "2026-01-01T00:00:00Z", "--address", "http://127.0.0.1:1"])
    assert "does not answer" in str(done.exception)
