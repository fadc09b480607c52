"""A verdict in plain words."""

from __future__ import annotations

import numpy as np
from msgspec import Struct

from trading.decision.schema import Decision
from trading.risk.rules import RULES
from trading.risk.verdict import Outcome, RuleResult, Verdict

OUTCOMES = {
    Outcome.ACCEPT: "accepted: every rule passes",
    Outcome.CLIP: "clipped to {quantity}, the largest size that passes all",
    Outcome.DENY: "denied",
}


class RuleRow(Struct, frozen=True):
    """A rule's line of the table, as text."""

    rule: str
    result: str
    value: str
    limit: str
    headroom: str
    words: str


def to_text(time_ns: int) -> str:
    """UTC, to the second."""
    return f"{np.datetime64(time_ns, 'ns').astype('datetime64[s]')} UTC"


def meaning(rule: str) -> str:
    """What a rule looks at: the first sentence of its file."""
    text = " ".join((RULES[rule].__doc__ or "").split("\n\n", 1)[0].split())
    return text.rstrip(".")


def rules_table() -> list[list[str]]:
    """Every rule: name, meaning, parameters, what it serves, what it does when blind."""
    return [
        [name, meaning(name), ", ".join(module.PARAMETERS) or "none", module.REGULATION, module.ON_MISSING_DATA]
        for name, module in RULES.items()
    ]


def as_markdown(header: list[str], lines: list[list[str]]) -> str:
    """A table for docs/."""
    quoted = [[line[0].join("``"), *line[1:]] for line in lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in [header, ["---"] * len(header), *quoted])


def rows(verdict: Verdict) -> list[RuleRow]:
    """Broken rules first, then the nearest to their limits, then those without a number."""
    return [row_of(result) for result in sorted(verdict.results, key=nearness)]


def nearness(result: RuleResult) -> tuple[bool, float]:
    """Sorts by how much of the limit is used."""
    used = -1.0 if result.value is None or not result.limit else result.value / result.limit
    return result.passed, -used


def row_of(result: RuleResult) -> RuleRow:
    """One rule."""
    unit = RULES[result.rule].UNIT
    value, limit, headroom = (number(v, unit) for v in (result.value, result.limit, result.headroom))
    words = f"{verdict_word(result)}: {meaning(result.rule)}"
    return RuleRow(result.rule, "passed" if result.passed else "BROKEN", value, limit, headroom, words)


def verdict_word(result: RuleResult) -> str:
    """How near."""
    if not result.passed:
        return "broken" if result.value is not None or result.limit is None else "not known, so denied"
    if result.value is None or not result.limit:
        return "ok"
    if result.value > result.limit:
        return "beyond its limit, and this order cures it"
    return f"{result.value / result.limit:.0%} used"


def number(value: float | None, unit: str) -> str:
    """A value in its unit."""
    if value is None:
        return ""
    if unit == "share":
        return f"{value:.2%}"
    if unit == "seconds":
        return f"{value:,.3f} s"
    return f"{value:,.6g}" if abs(value) < 1e6 or unit != "money" else f"{value:,.0f}"


def headline(verdict: Verdict) -> str:
    """The outcome, and what broke."""
    told = OUTCOMES[verdict.outcome].format(quantity=f"{verdict.quantity:+g}")
    return told + (f"; broken: {', '.join(verdict.broken)}" if verdict.broken else "")


def story(decision: Decision) -> list[str]:
    """A decision in sentences."""
    d = decision
    lines = [f"{d.decision_id}: {d.symbol} at {to_text(d.event_time_ns)}, mid {d.mid_price}"]
    lines.append(
        f"The model's target was {d.target_position:+.4f} of the position limit; {d.position_before:g} was held."
        if d.target_position is not None
        else f"There was no target of a model; {d.position_before:g} was held."
    )
    if d.verdict is None:
        lines.append(f"No order was wanted: {d.reason.value.replace('_', ' ')}.")
    else:
        lines.append(f"The order was {headline(d.verdict)}.")
    lines.append(
        f"Trading state {d.trading_state.value}; limits {d.limits_version or 'not recorded'}; "
        f"model {d.model_name} {d.model_version or '(no answer)'}."
    )
    return lines
