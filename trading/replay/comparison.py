"""Where a published decision and one that was made again differ."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from msgspec import Struct

from trading.decision.schema import Decision, StageTimes
from trading.decision.wire import decode_decision
from trading.encoding import encode
from trading.risk.verdict import RuleResult

#: What a wall clock writes: where a tick's time went, and when it was decided.
WALL_CLOCK = re.compile(rb'"stages":\{[^}]*\},"decided_at_ns":-?\d+')
#: What a decision had not before its quota was recorded.
QUOTA = b',"desk_quota":'
#: The rule that a quota is for.
DESK = "desk_exposure"
WALL_FIELDS = frozenset({"stages", "decided_at_ns"})
NO_STAGES = StageTimes(0.0, 0.0, 0.0, 0.0)
MOST_TEXT = 300


class Difference(Struct, frozen=True):
    """The first field that is not the same, in the order in which a decision is made.

    Attributes:
        field: of the decision; "tick" or "limits" where it is what the decision was made of.
        recorded, recomputed: JSON of both.
        why: a sentence.
    """

    field: str
    recorded: str
    recomputed: str
    why: str


#: The order in which a decision comes about, and what it says where a field differs and none before it does.
CAUSES = {
    "decision_id": "it is about another tick",
    "symbol": "it is about another symbol",
    "event_time_ns": "the tick has another time",
    "trace_id": "the tick names another trace",
    "mid_price": "the standing prices are others: ticks before it were others",
    "features": "the same ticks make other features: ticks before it, or the kernel, were others",
    "warm": "another number of ticks came before",
    "trading_state": "another trading state",
    "limits_version": "other limits held: the commands, the account, the strategy or the number of books differ",
    "desk_quota": "another share of the desk's exposure",
    "fills_to": "another part of the broker's reports was taken",
    "control_to": "another part of the commands was taken",
    "assigned": "the experiment that it names gives its unit to another arm",
    "position_before": "the book held another position: orders, fills or resets before it were others",
    "target_position": "another target",
    "verdict": "the rules judge the same order otherwise: the book's money, rates or windows were others",
}


def same(published: bytes, recomputed: bytes) -> bool:
    """Whether two encoded decisions are equal but for what a wall clock writes."""
    if QUOTA not in published:
        # Of before there was that field.
        return without_quota(published) == without_quota(recomputed)
    return WALL_CLOCK.sub(b"", published) == WALL_CLOCK.sub(b"", recomputed)


def without_quota(payload: bytes) -> Decision:
    """A decision without what older ones do not have to the last digit, and without what a wall clock writes."""
    found = decode_decision(payload)
    verdict = found.verdict
    if verdict is not None:
        results = tuple(
            RuleResult(r.rule, r.passed, None, None, None) if r.rule == DESK else r for r in verdict.results
        )
        verdict = msgspec.structs.replace(verdict, results=results)
    return msgspec.structs.replace(found, stages=NO_STAGES, decided_at_ns=0, desk_quota=None, verdict=verdict)


def first_difference(published: bytes, recomputed: bytes) -> Difference:
    """The first field in which two encoded decisions differ."""
    read = decode_decision if QUOTA in published else without_quota
    one, other = (msgspec.to_builtins(read(payload)) for payload in (published, recomputed))
    for field in [*CAUSES, *one]:
        if field not in WALL_FIELDS and one[field] != other[field]:
            why = CAUSES.get(field, "the same inputs make another decision")
            return Difference(field, shown(one[field]), shown(other[field]), why)
    return Difference("", published.decode(errors="replace")[:MOST_TEXT], "", "they are written in another way")


def shown(value: Any) -> str:
    """JSON, not longer than a person reads."""
    text = encode(value).decode()
    return text if len(text) <= MOST_TEXT else text[:MOST_TEXT] + "…"
