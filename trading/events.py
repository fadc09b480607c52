"""What leaves a partition and reaches it beside its ticks: orders, the broker's reports, commands."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Literal

from msgspec import Struct

from trading.encoding import Count, Int64, Number, Records
from trading.errors import BadRecord
from trading.market import Symbol
from trading.risk.limits import LimitSet
from trading.risk.trading_state import TradingState


class NewOrder(Struct, frozen=True):
    """An order that risk has accepted, as the broker gets it.

    Attributes:
        order_id: the decision's id.
        number: the tick's offset; grows from one order of a partition to the next.
        symbol: instrument.
        quantity: signed, in units.
        price: reference price, in the instrument's price unit.
        event_time_ns: of the tick.
        sent_ns: wall time of the decision.
        expires_ns: wall time after which it must not be taken.
        state_version: of the trading state that it was decided under: how far the control topic had been taken.
        account, strategy: whose.
        trace_id: of the tick.
    """

    order_id: str
    number: Int64
    symbol: Symbol
    quantity: Number
    price: Number
    event_time_ns: Int64
    sent_ns: Int64
    account: str
    strategy: str
    trace_id: str = ""
    # An order of before there were these has expired.
    expires_ns: Int64 = 0
    state_version: Int64 = 0


class CancelOrder(Struct, frozen=True, tag_field="kind", tag="cancel"):
    """The desk wants nothing more of an order; it lies behind the order in the same partition.

    The broker answers with a report of kind cancel, unless it is done with the order, or does not know it.

    Attributes:
        order_id, number, symbol: of the order.
        left: signed, of it, still working when this was written, as far as was reported.
        state: of the desk, because of which it is cancelled.
        sent_ns: wall time.
        account, strategy: whose.
    """

    order_id: str
    number: Int64
    symbol: Symbol
    left: Number
    state: TradingState
    sent_ns: Int64
    account: str
    strategy: str


class _Kind(Struct):
    kind: str = "new"


_kinds, _new_orders, _cancels = Records(_Kind), Records(NewOrder), Records(CancelOrder)


def read_order(payload: bytes | str | None) -> NewOrder | CancelOrder:
    """What a record of the orders topic asks. Raises BadRecord, for a kind that is not known too."""
    kind = _kinds.read(payload).kind
    if kind == "new":
        return _new_orders.read(payload)
    if kind == "cancel":
        return _cancels.read(payload)
    raise BadRecord(f"an order message of kind {kind[:20]!r}: expected new or cancel")


class ReportKind(StrEnum):
    """What the broker says of an order."""

    FILL = "fill"
    REJECT = "reject"
    CANCEL = "cancel"


class ExecutionReport(Struct, frozen=True):
    """The broker's word on an order.

    Attributes:
        order_id, number, symbol: of the order.
        sequence: how many reports of the order came before; one that comes again is not taken again.
        kind: fill (a part or the rest), reject (nothing of it), cancel (nothing more of it).
        quantity: signed, of this fill; 0 otherwise.
        price: of this fill, in the instrument's price unit.
        fee: in the instrument's currency.
        left: signed, still working.
        at_ns: wall time.
        reason: of a reject or cancel.
    """

    order_id: str
    number: Int64
    sequence: Count
    symbol: Symbol
    kind: ReportKind
    quantity: Number
    price: Number
    fee: Number
    left: Number
    at_ns: Int64
    reason: str = ""


CommandKind = Literal["trading_state", "drain", "log_level", "limits", "reset", "rebind", "experiment"]


class Command(Struct, frozen=True, forbid_unknown_fields=True):
    """What a human asks of every gateway: by whom, why and when. A field more could mean anything."""

    kind: CommandKind
    value: str
    reason: str
    by: str
    at_ns: Int64


class PartitionEvents(Struct, frozen=True):
    """What reached a partition beside its ticks, before one of them; both from where the state had stopped.

    Attributes:
        commands: of the control topic that change limits or latches, each with its limits if it has any.
        control_to: offset in the control topic after everything that was looked at.
        reports: of the broker.
        fills_to: offset in the fills' partition after the last of them.
    """

    commands: Sequence[tuple[Command, LimitSet | None]]
    control_to: int
    reports: Sequence[ExecutionReport]
    fills_to: int
