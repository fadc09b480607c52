"""`ultrathink risk` without any server: files, proofs, explanations, simulations."""

from __future__ import annotations

import json
import os

import msgspec
import pytest
from typer.testing import CliRunner

from stack.cli.main import app
from stack.workflows import explain
from tests.paths import GOLDEN, ROOT
from tests.traded_book import TradedBook
from trading.decision.schema import Action, Decision, Reason, StageTimes
from trading.encoding import encode
from trading.errors import ConfigurationError
from trading.risk import rules
from trading.risk.limits import Limits
from trading.risk.trading_state import TradingState

EXPLAINED = GOLDEN / "explain"
CLI = CliRunner()
SIMULATED = "simulate:regimes?seed=5&ticks=3000&symbols=3"


@pytest.fixture(autouse=True)
def nowhere(tmp_path, monkeypatch):
    monkeypatch.setenv("ULTRATHINK_HOME", str(tmp_path / "none"))
    monkeypatch.setattr("stack.cli.output.out.width", 160)


def run(*words, code=0):
    found = CLI.invoke(app, ["risk", *map(str, words)])
    assert found.exit_code == code, (found.output, found.exception)
    return found.output


def decision(verdict, **changes):
    given = Decision(
        "market.ticks-2-4711", "BTCUSDT", 1_723_161_256_298_000_000, Action.HOLD, Reason.DENIED, 0.0, 61_000.1,
        61_000.05, 0.2, 0.2, 0.75, [], True, [], [], [], "trading_decision", "3", "champion", TradingState.ACTIVE,
        verdict, StageTimes(1, 2, 3, 4), 1_723_161_256_300_000_000, "", "0123456789ab",
    )  # fmt: skip
    return msgspec.structs.replace(given, **changes)


def cases():
    desk = TradedBook(max_order_notional=50_000.0, max_position_notional=100_000.0, max_gross_notional=2e5, price_collar=0.05,
                max_concentration=0.25, capital=400_000.0, max_staleness_s=5.0, max_drawdown=0.2, max_leverage=1.0,
                cooldown_losses=3)  # fmt: skip
    desk.tick(61_000.0, "BTCUSDT")
    desk.hold(0.2, 61_000.0, "BTCUSDT")
    at = {"price": 61_000.1}
    yield "accepted", decision(desk.judge(0.5, "BTCUSDT", **at), action=Action.BUY, reason=Reason.TARGET, quantity=0.5,
                               position_after=0.7)  # fmt: skip
    yield "clipped", decision(desk.judge(2.0, "BTCUSDT", **at), action=Action.BUY, reason=Reason.TARGET,
                              quantity=0.819, position_after=1.019)  # fmt: skip
    yield "stale", decision(desk.judge(0.5, "BTCUSDT", age_ns=7_250_000_000, **at))
    yield "halted", decision(desk.judge(0.5, "BTCUSDT", state=2, **at), trading_state=TradingState.HALTED)
    desk.hold(1.0, 10_000.0, "E")
    desk.book.position("E").rate = float("nan")
    blind = TradedBook(max_gross_notional=2e5, max_drawdown=0.2, symbols={"E": {"currency": "EUR"}})
    blind.hold(1.0, 100.0, "E")
    blind.tick(61_000.0, "BTCUSDT")
    yield "blind", decision(blind.judge(0.5, "BTCUSDT"))
    yield "no-order", decision(None, reason=Reason.WITHIN_BAND, target_position=0.12)
    yield "no-answer", decision(None, reason=Reason.PREDICTOR_TIMEOUT, target_position=None, model_version="")


@pytest.mark.parametrize(
    ("name", "found"), list(cases()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_explanations_are_as_they_were(name, found, tmp_path):
    path = tmp_path / "decision.json"
    path.write_bytes(encode(found))
    told = run("explain", path)
    golden = EXPLAINED / f"{name}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(told)
    assert told == golden.read_text()


def test_an_explanation_as_json_has_the_story_and_every_rule(tmp_path):
    path = tmp_path / "decision.json"
    found = dict(cases())["clipped"]
    path.write_bytes(encode(found))
    told = json.loads(run("explain", path, "--json"))
    assert "clipped to +0.819" in " ".join(told["story"])
    assert {row["rule"] for row in told["rules"]} == {r.rule for r in found.verdict.results}


def test_docs_have_the_table_of_the_rules_and_every_limit():
    text = (ROOT / "docs" / "risk.md").read_text()
    assert run("rules", "--markdown").strip() in text
    assert [name for name in Limits.__struct_fields__ if f"`{name}`" not in text] == []
    assert all(len(explain.meaning(rule)) > 20 for rule in rules.NAMES)
    assert {p for m in rules.RULES.values() for p in m.PARAMETERS} <= {*Limits.__struct_fields__, "session"}


@pytest.mark.parametrize("name", ["nonsense", "market.ticks-x-1"])
def test_what_is_no_decision_is_said(name):
    found = CLI.invoke(app, ["risk", "explain", name])
    assert isinstance(found.exception, ConfigurationError)
    assert "is no decision" in str(found.exception)


def test_check_denies_with_an_exit_code_and_clips():
    assert "clipped to +500" in run("check", "A", "900", "--price", "100")
    assert "broken: stale_data" in run("check", "A", "1", "--price", "100", "--age-s", "6", code=1)
    assert "kill_switch" in run("check", "A", "1", "--price", "100", "--state", "killed", code=1)
    exits = json.loads(
        run("check", "--price", "100", "--position", "50", "--state", "reducing", "--json", "A", "--", "-50")
    )
    assert exits["outcome"] == "accept"
    wrong = CLI.invoke(app, ["risk", "check", "A", "1", "--price", "1", "--state", "sleepy"])
    assert "expected one of active" in str(wrong.exception)


def test_selftest_lists_every_rule_and_fails_on_what_cannot_fire(tmp_path):
    told = json.loads(run("selftest", "--json"))
    assert all(p["denied"] and p["passed"] for p in told if p["on"])
    assert "14 of 14 limits proven" in run("selftest")
    path = tmp_path / "limits.yaml"
    path.write_text("defaults: {max_concentration: 1.0}")
    assert "not proven" in run("selftest", "--limits", path, code=1)


def test_limits_are_checked_compared_and_shown(tmp_path):
    old, new = tmp_path / "old.yaml", tmp_path / "new.yaml"
    old.write_text("defaults: {max_leverage: 2}")
    new.write_text("defaults: {max_leverage: 3}\nsymbols: {A: {long_only: yes}}")
    assert "1 symbols" in run("limits", "check", new)
    assert "no difference" in run("limits", "diff", old, old)
    told = json.loads(run("limits", "diff", old, new, "--json", code=1))
    assert told == [
        {"level": "defaults", "limit": "max_leverage", "old": 2, "new": 3},
        {"level": "symbols.A", "limit": "long_only", "old": None, "new": True},
    ]
    assert (
        json.loads(run("limits", "show", "--limits", new, "--symbol", "A", "--json"))["resolved"]["long_only"]
        is True
    )
    new.write_text("defaults: {max_leverage: -3}")
    refused = CLI.invoke(app, ["risk", "limits", "check", str(new)])
    assert "line 1: max_leverage" in str(refused.exception)
    assert json.loads(run("schema"))["$defs"]["Limits"]


def test_a_simulation_shows_what_other_limits_would_have_changed(tmp_path):
    tighter, plot = tmp_path / "tighter.yaml", tmp_path / "plot.png"
    tighter.write_text("defaults: {max_order_notional: 10_000, max_symbol_orders: 5, order_window_s: 60}")
    told = json.loads(run("simulate", SIMULATED, "--limits", tighter, "--plot", plot, "--json"))
    assert told["ticks"] == 3000
    assert told["changed"] > 0
    base, new = told["base"], told["new"]
    assert base["accepted"] + base["clipped"] + base["denied"] == base["wanted"]
    assert new["traded"] < base["traded"]
    assert new["broken"]["order_notional"] > base["broken"].get("order_notional", 0)
    assert plot.read_bytes().startswith(b"\x89PNG")
    same = json.loads(run("simulate", SIMULATED, "--limits", tighter, "--base", tighter, "--plot", plot, "--json"))
    assert (same["changed"], same["base"]) == (0, same["new"])
    assert "decided differently" in run("simulate", SIMULATED, "--limits", tighter, "--plot", plot)


def test_recorded_decisions_are_decided_again_as_they_were(tmp_path):
    """What the gateway wrote, with the same limits, changes nothing."""
    from tests.fakes import FakeClock, FakePredictor, raw_batch
    from tests.unit.gateway.test_pipeline import LIMITS, Bench, quotes

    class Turning(FakePredictor):
        def _predict(self, n):
            self.target = -self.target
            return super()._predict(n)

    clock = FakeClock()
    batches = [raw_batch([tick], clock, first_offset=k) for k, tick in enumerate(quotes(120))]
    bench = Bench(batches, clock=clock, predictor=Turning())
    recorded = bench.run()
    path, limits = tmp_path / "decisions.jsonl", tmp_path / "limits.yaml"
    path.write_bytes(b"\n".join(encode(d) for d in recorded))
    limits.write_text(json.dumps({"defaults": LIMITS.file.defaults}))
    args = (
        "simulate",
        f"decisions:{path}",
        "--limits",
        limits,
        "--base",
        limits,
        "--plot",
        tmp_path / "p.png",
        "--json",
    )
    told = json.loads(run(*args))
    assert told["changed"] == 0
    assert told["base"]["wanted"] == sum(d.verdict is not None for d in recorded) > 50
    assert told["base"]["traded"] == pytest.approx(
        sum(abs(d.quantity) * (d.reference_price or 0.0) for d in recorded)
    )
    path.write_text("no decision\n")
    wrong = CLI.invoke(app, ["risk", "simulate", f"decisions:{path}", "--limits", str(limits)])
    assert "no decision of this version" in str(wrong.exception)
