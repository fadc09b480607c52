"""Every limit that is set is shown to deny and to let pass; what cannot fire is found by name."""

from __future__ import annotations

import pytest

from gateway.before_joining import self_test
from trading.errors import ConfigurationError
from trading.portfolio.book import Book
from trading.risk import rules
from trading.risk.calendar import Session
from trading.risk.limits import LimitSet, LimitsFile
from trading.risk.self_test import prove_all
from trading.risk.verdict import Outcome, Verdict

FULL = {
    "price_increment": 0.05, "min_quantity": 0.01, "min_notional": 10.0, "max_symbol_orders": 20, "max_orders": 100,
    "max_same_way_executions": 50, "max_net_notional": 5e5, "max_daily_loss": 2e4, "cooldown_losses": 3,
    "max_value_at_risk": 1e5, "max_desk_notional": 1e7, "restricted": True, "long_only": True,
}  # fmt: skip
HOURS = Session(
    timezone="America/New_York", opens="09:30", closes="16:00", days=("mon", "tue", "wed", "thu", "fri")
)


def proofs(session=None, symbols=None, fed=("reservations in Redis",), new_book=Book, **limits):
    return prove_all(LimitSet(LimitsFile(session=session, defaults=limits, symbols=symbols or {})), new_book, fed)


def test_every_rule_says_all_that_a_rule_must_say():
    for name, rule in rules.RULES.items():
        assert name == rule.NAME
        assert callable(rule.check)
        assert callable(rule.prove)
        assert rule.REGULATION
        assert rule.ON_MISSING_DATA


@pytest.mark.parametrize("changes", [{}, {"var_method": "historical"}, {"cooldown_scope": "side"},
                                     {"cooldown_scope": "all"}, {"halted_allows_exits": True}])  # fmt: skip
def test_all_limits_at_once_are_proven(changes):
    found = proofs(HOURS, **{**FULL, **changes})
    assert [p.problem for p in found if p.problem] == []
    assert {p.rule for p in found if p.on} == set(rules.NAMES)


def test_the_defaults_are_proven():
    found = proofs()
    assert not any(p.problem for p in found)
    assert {p.rule for p in found if not p.on} == {
        "price_increment", "minimum_size", "order_rate_symbol", "order_rate", "repeated_execution", "restricted_list",
        "long_only", "session_hours", "net_exposure", "daily_loss", "cooldown", "value_at_risk", "desk_exposure",
    }  # fmt: skip


def test_a_symbols_own_limits_are_proven_too():
    found = proofs(symbols={"A": {"max_order_notional": 5.0}, "B": {"long_only": True}})
    assert {(p.rule, p.scope) for p in found if p.on and p.scope != "book"} == {
        ("order_notional", "A"), ("long_only", "B"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("limits", "rule", "says"),
    [
        ({"max_desk_notional": 1e6, "fed": ()}, "desk_exposure", "nothing feeds it"),
        ({"max_concentration": 1.0}, "concentration", "can never deny"),
        ({"max_value_at_risk": 1e3, "var_confidence": 0.5}, "value_at_risk", "can never deny"),
        (
            {"session": Session(days=("mon",), opens="10:00", holidays=("2024-01-01", "2024-01-08"))},
            "session_hours",
            "open",
        ),
        ({"symbols": {"E": {"currency": "EUR"}}}, "valid_values", "no rate for EUR in USD"),
    ],
)
def test_a_limit_that_nothing_feeds_or_reaches_is_named(limits, rule, says):
    found = [p for p in proofs(**limits) if p.problem]
    assert [p.rule for p in found] == [rule]
    assert says in found[0].problem


def test_a_gateway_does_not_start_on_limits_that_are_not_proven():
    with pytest.raises(ConfigurationError, match="concentration.*can never deny"):
        self_test(LimitSet(LimitsFile(defaults={"max_concentration": 1.0})))
    self_test(LimitSet())


class Lenient(Book):
    """Orders of more than two lots are never denied for their size."""

    def judge(self, symbol, order):
        verdict = super().judge(symbol, order)
        return (
            Verdict(Outcome.ACCEPT, order.quantity, verdict.results) if "order_size" in verdict.broken else verdict
        )


def test_a_rule_that_always_passes_would_be_found():
    (found,) = [p for p in proofs(new_book=Lenient, max_order_quantity=5.0) if p.problem]
    assert (found.rule, "can never deny" in found.problem) == ("order_size", True)
