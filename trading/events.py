"""What leaves a partition and reaches it beside its ticks: orders, the broker's reports, commands."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Literal

from msgspec import Struct

from trading.risk.limits import LimitSet


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
        account, strategy: whose.
        trace_id: of the tick.
    """

    order_id: str
    number: int
    symbol: str
    quantity: float
    price: float
    event_time_ns: int
    sent_ns: int
    account: str
    strategy: str
    trace_id: str = ""


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
    number: int
    sequence: int
    symbol: str
    kind: ReportKind
    quantity: float
    price: float
    fee: float
    left: float
    at_ns: int
    reason: str = ""


CommandKind = Literal["trading_state", "drain", "log_level", "limits", "reset"]


class Command(Struct, frozen=True):
    """What a human asks of every gateway: by whom, why and when."""

    kind: CommandKind
    value: str
    reason: str
    by: str
    at_ns: int


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
