"""Proof, for each limit that is set, that it can deny and that it does not deny everything.

Each rule gets a book of its own, in which all other limits are off, an order that it must deny and one
that it must let pass: `prove` in the rule's own file. A limit that nothing feeds, or that can never be
reached, fails its proof.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

from msgspec import Struct

from trading.risk.calendar import Session
from trading.risk.limits import Limits, LimitSet
from trading.risk.proof import RESERVATIONS, Case, NewBook
from trading.risk.rules import RULES
from trading.risk.verdict import Outcome, Verdict


class Proof(Struct, frozen=True):
    """What was shown of a rule.

    Attributes:
        rule: its name.
        scope: "book", or the symbol whose limits differ.
        on: whether its limit is set.
        denied, passed: the two orders, in words; "" where a rule is off.
        problem: why it is not proven; "" where it is.
    """

    rule: str
    scope: str
    on: bool
    denied: str
    passed: str
    problem: str


def prove_all(limits: LimitSet, new_book: NewBook, fed: Collection[str] = (RESERVATIONS,)) -> list[Proof]:
    """A proof for each rule of the book, and for each symbol whose limits differ.

    Args:
        limits: of the book.
        new_book: makes an empty book under given limits.
        fed: what reaches the rules beside ticks.
    """
    found = []
    scopes = {"": limits.book, **{symbol: limits.of(symbol) for symbol in limits.file.symbols}}
    for name, rule in RULES.items():
        shown: set[tuple[Any, ...]] = set()
        for symbol, of in scopes.items():
            own = tuple(getattr(of, p, None) for p in rule.PARAMETERS)
            if own not in shown:
                shown.add(own)
                found.append(prove(name, symbol or "book", of, limits, new_book, fed))
        if name == "valid_values":
            found += [proof for symbol in scopes if symbol and (proof := unpriced(symbol, limits)) is not None]
    return found


def unpriced(symbol: str, limits: LimitSet) -> Proof | None:
    """A symbol whose currency nobody gives a rate for can only be denied."""
    if not math.isnan(limits.rate(symbol)):
        return None
    currency = limits.of(symbol).currency
    return Proof("valid_values", symbol, True, "", "", f"there is no rate for {currency} in {limits.file.currency}")


def prove(name: str, scope: str, limits: Limits, of: LimitSet, new_book: NewBook, fed: Collection[str]) -> Proof:
    """Show one rule's two orders."""
    rule, session = RULES[name], of.file.session
    if not is_on(name, limits, session):
        return Proof(name, scope, False, "", "", "")
    needs = getattr(rule, "NEEDS", None)
    if needs is not None and needs not in fed:
        return Proof(name, scope, True, "", "", f"{rule.PARAMETERS[0]} is set, but nothing feeds it: {needs}")
    try:
        (what, denied), (other, passed) = rule.prove(
            lambda: Case(
                new_book, rule.PARAMETERS, limits, session, whole_session=getattr(rule, "WHOLE_SESSION", False)
            )
        )
    except LookupError as error:
        return Proof(name, scope, True, "", "", str(error))
    problem = ""
    if denied.outcome is Outcome.ACCEPT or name not in denied.broken:
        problem = f"it can never deny: {what} is let through"
    elif passed.outcome is not Outcome.ACCEPT:
        problem = f"it lets nothing pass: {other} is denied by {', '.join(passed.broken)}"
    return Proof(
        name, scope, True, f"{what}: {describe(denied, name)}", f"{other}: {describe(passed, name)}", problem
    )


def describe(verdict: Verdict, name: str) -> str:
    """The outcome, and the rule's numbers if it has any."""
    result = next(r for r in verdict.results if r.rule == name)
    if result.value is None or result.limit is None:
        return str(verdict.outcome)
    return f"{verdict.outcome} ({result.value:,.6g} of {result.limit:,.6g})"


def is_on(name: str, limits: Limits, session: Session | None) -> bool:
    """Whether the rule's limit is set."""
    rule = RULES[name]
    if getattr(rule, "ALWAYS_ON", False):
        return True
    if hasattr(rule, "is_on"):
        return bool(rule.is_on(limits, session))
    return bool(getattr(limits, rule.PARAMETERS[0]))
