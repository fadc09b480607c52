"""Orders as they lie in Kafka, each with what the broker said of it."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from msgspec import Struct

from connectors.kafka.messages import MS
from connectors.kafka.topics import Topics
from gateway.control.stop_audit import MARGIN_NS, records_since
from stack.workflows.latest import Latest, latest_records
from trading.encoding import Records
from trading.events import CancelOrder, ExecutionReport, NewOrder, ReportKind, read_order
from trading.portfolio.working_orders import NOTHING

_reports = Records(ExecutionReport)


class OrderState(StrEnum):
    """What has become of an order, as far as the broker has said."""

    WORKING = "working"
    CANCELLING = "cancelling"
    FILLED = "filled"
    REJECTED = "rejected"
    CANCELLED = "cancelled"


class OrderRecord(Struct, frozen=True):
    """An order; quantities signed, in units, prices in the instrument's.

    Attributes:
        order_id: the decision's id.
        symbol: the instrument.
        state: cancelling is working, and the desk wants nothing more of it.
        quantity: that was ordered.
        price: reference price of the decision.
        filled: of it.
        left: of it, still working.
        average_price: of the fills; None without one.
        fees: paid, in the instrument's currency.
        sent_ns: wall time of the decision.
        ended_ms: from there to the record that ended it; None while it works.
        account, strategy: whose.
        reason: the broker's, of a reject or cancel.
        trace_id: of the tick.
    """

    order_id: str
    symbol: str
    state: OrderState
    quantity: float
    price: float
    filled: float
    left: float
    average_price: float | None
    fees: float
    sent_ns: int
    ended_ms: float | None
    account: str
    strategy: str
    reason: str = ""
    trace_id: str = ""


class OrderWanted(Struct, frozen=True):
    """Which orders: "" takes any symbol; `working` those alone that no report has ended."""

    symbol: str = ""
    working: bool = False


def latest_orders(bootstrap: str, topics: Topics, count: int, wanted: OrderWanted) -> Latest[OrderRecord]:
    """The last so many orders that are wanted, in the order in which they were sent.

    Raises:
        ConfigurationError: there is no such topic.
        ServiceUnavailable: Kafka does not answer.
    """
    reach = count
    while True:
        asked = latest_records(
            bootstrap, topics.orders, reach, read_order,
            lambda one: isinstance(one, NewOrder) and wanted.symbol in {"", one.symbol}, lambda one: one.sent_ns,
        )  # fmt: skip
        orders = [one for one in asked.records if isinstance(one, NewOrder)]
        told = records(orders, *heard(bootstrap, topics, orders))
        found = [one for one in told if not wanted.working or one.ended_ms is None]
        if len(found) >= count or len(orders) < reach:
            return Latest(found[-count:], asked.unread)
        # What works may lie behind many that have ended.
        reach *= 8


def heard(
    bootstrap: str, topics: Topics, orders: list[NewOrder]
) -> tuple[list[CancelOrder], list[tuple[int, ExecutionReport]]]:
    """Cancels, and the broker's reports with the times of their records, since the oldest of some orders."""
    if not orders:
        return [], []
    since_ms = (min(one.sent_ns for one in orders) - MARGIN_NS) // MS
    cancels = [
        one
        for _, one in records_since(bootstrap, topics.orders, since_ms, read_order)
        if isinstance(one, CancelOrder)
    ]
    return cancels, list(records_since(bootstrap, topics.fills, since_ms, _reports.read))


def records(
    orders: Iterable[NewOrder], cancels: Iterable[CancelOrder], reports: Iterable[tuple[int, ExecutionReport]]
) -> list[OrderRecord]:
    """Orders with what was said of each; a report that comes again, by its sequence, counts once."""
    asked = {one.order_id for one in cancels}
    said: dict[str, dict[int, tuple[int, ExecutionReport]]] = {}
    for at_ns, report in reports:
        said.setdefault(report.order_id, {}).setdefault(report.sequence, (at_ns, report))
    return [
        record(one, [told for _, told in sorted(said.get(one.order_id, {}).items())], one.order_id in asked)
        for one in orders
    ]


def record(order: NewOrder, reports: list[tuple[int, ExecutionReport]], cancelling: bool) -> OrderRecord:
    """One order, by the reports of it in their order."""
    fills = [report for _, report in reports if report.kind is ReportKind.FILL]
    filled, paid = sum(one.quantity for one in fills), sum(one.quantity * one.price for one in fills)
    state, ended_ns, reason = OrderState.CANCELLING if cancelling else OrderState.WORKING, None, ""
    for at_ns, report in reports:
        if report.kind is ReportKind.FILL and abs(report.left) >= NOTHING:
            continue
        state = {
            ReportKind.FILL: OrderState.FILLED, ReportKind.REJECT: OrderState.REJECTED,
            ReportKind.CANCEL: OrderState.CANCELLED,
        }[report.kind]  # fmt: skip
        ended_ns, reason = at_ns, report.reason
        break
    return OrderRecord(
        order_id=order.order_id,
        symbol=order.symbol,
        state=state,
        quantity=order.quantity,
        price=order.price,
        filled=filled,
        left=order.quantity - filled if ended_ns is None else 0.0,
        average_price=paid / filled if abs(filled) >= NOTHING else None,
        fees=sum(one.fee for one in fills),
        sent_ns=order.sent_ns,
        ended_ms=None if ended_ns is None else (ended_ns - order.sent_ns) / MS,
        account=order.account,
        strategy=order.strategy,
        reason=reason,
        trace_id=order.trace_id,
    )
