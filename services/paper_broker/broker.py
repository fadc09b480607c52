"""What becomes of an order. A function of the order alone, so that a restart says the same again."""

from __future__ import annotations

import math
import random
from typing import NamedTuple

from msgspec import Struct, structs

from services.paper_broker.answered import Said
from trading.events import ExecutionReport, NewOrder, ReportKind

MS = 1_000_000


class FillModel(Struct, frozen=True):
    """How good the broker is. Shares are of all orders.

    Attributes:
        latency_ms: from an order's sending to its first report, at least.
        jitter_ms: mean of an exponential time on top of it.
        partial_share: filled in two or three parts.
        reject_share: rejected.
        cancel_share: cancelled after a part.
        slippage_bps: how much worse than its reference price an order fills, in basis points.
        fee_bps: of what was traded.
        seed: of chance.
    """

    latency_ms: float = 8.0
    jitter_ms: float = 4.0
    partial_share: float = 0.2
    reject_share: float = 0.002
    cancel_share: float = 0.005
    slippage_bps: float = 0.2
    fee_bps: float = 0.5
    seed: int = 7


class Due(NamedTuple):
    """A report, and the wall time at which it is sent."""

    at_ns: int
    report: ExecutionReport


def reports(order: NewOrder, fill_model: FillModel) -> list[Due]:
    """Everything that the broker will say of an order, in order of time."""
    chance = random.Random(f"{fill_model.seed}/{order.order_id}")
    at_ns = order.sent_ns + delay_ns(chance, fill_model)
    fate = chance.random()
    if fate < fill_model.reject_share:
        return [Due(at_ns, report(order, 0, ReportKind.REJECT, 0.0, 0.0, at_ns, fill_model, "no liquidity"))]
    parts = split(order.quantity, chance) if chance.random() < fill_model.partial_share else [order.quantity]
    cancelled = fate < fill_model.reject_share + fill_model.cancel_share
    found, left = [], order.quantity
    for sequence, part in enumerate(parts[:1] if cancelled and len(parts) > 1 else parts):
        left = round(left - part, 10)
        found.append(Due(at_ns, report(order, sequence, ReportKind.FILL, part, left, at_ns, fill_model)))
        at_ns += delay_ns(chance, fill_model)
    if left != 0.0:
        found.append(
            Due(
                at_ns,
                report(
                    order, len(found), ReportKind.CANCEL, 0.0, 0.0, at_ns, fill_model, "the rest was not filled"
                ),
            )
        )
    return found


class PaperAnswers(Struct, frozen=True):
    """Implements Answers by a fill model."""

    model: FillModel

    def fresh(self, order: NewOrder, now_ns: int, stopped: str) -> list[Due]:
        """Everything, or that it is refused and why."""
        why = "expired" if now_ns > order.expires_ns else stopped
        if why:
            return [Due(now_ns, report(order, 0, ReportKind.REJECT, 0.0, 0.0, now_ns, self.model, why))]
        return reports(order, self.model)

    def rest(self, order: NewOrder, said: Said) -> list[Due]:
        """What was not said then; where that does not fit what was, because the model is another now, one fill."""
        if said.left == 0.0:
            return []
        found = reports(order, self.model)[said.reports :]
        if found and math.isclose(found[0].report.quantity + found[0].report.left, said.left, abs_tol=1e-9):
            return found
        if found and found[0].report.kind is ReportKind.CANCEL:
            return found
        at_ns = order.sent_ns + int(self.model.latency_ms * MS)
        fill = report(order, said.reports, ReportKind.FILL, said.left, 0.0, at_ns, self.model)
        return [Due(at_ns, fill)]


def cancelled(report: ExecutionReport, now_ns: int, reason: str) -> ExecutionReport:
    """What is said in place of a report that is not sent: nothing more of the order is done."""
    return structs.replace(
        report, kind=ReportKind.CANCEL, quantity=0.0, price=0.0, fee=0.0, left=0.0, at_ns=now_ns, reason=reason
    )


def delay_ns(chance: random.Random, fill_model: FillModel) -> int:
    """The time that the next report takes."""
    jitter = chance.expovariate(1.0 / fill_model.jitter_ms) if fill_model.jitter_ms > 0.0 else 0.0
    return int((fill_model.latency_ms + jitter) * MS)


def split(quantity: float, chance: random.Random) -> list[float]:
    """Two or three parts, to a thousandth of a unit; one where it is too small for that."""
    found, left = [], quantity
    for _ in range(chance.randint(1, 2)):
        part = round(left * chance.uniform(0.2, 0.8), 3)
        if part not in {0.0, left}:
            found.append(part)
            left = round(left - part, 10)
    return [*found, left]


def report(
    order: NewOrder,
    sequence: int,
    kind: ReportKind,
    quantity: float,
    left: float,
    at_ns: int,
    fill_model: FillModel,
    reason: str = "",
) -> ExecutionReport:
    """One report; a fill's price is worse than the order's by the slippage."""
    side = 1.0 if order.quantity > 0.0 else -1.0
    price = order.price * (1.0 + side * fill_model.slippage_bps / 1e4) if quantity else 0.0
    fee = abs(quantity) * price * fill_model.fee_bps / 1e4
    return ExecutionReport(
        order.order_id, order.number, sequence, order.symbol, kind, quantity, price, fee, left, at_ns, reason
    )
