"""The desk's stops, as the broker hears them: what was decided before a stop is not taken after it."""

from __future__ import annotations

from bisect import bisect_right

from msgspec import Struct

from trading.control import InForce
from trading.events import NewOrder
from trading.risk.trading_state import SEVERITY, TradingState


class Stop(Struct, frozen=True):
    """From `at_ns` on, by the broker's clock, `state` holds; `version` is the offset after the word for it."""

    at_ns: int
    version: int
    state: TradingState


class Stops:
    """The trading states that the control topic told, in order: a function of the log, also after a restart."""

    def __init__(self) -> None:
        self._in_force = InForce()
        #: Records that were taken.
        self.heard = 0
        self._told: list[Stop] = []
        self._times: list[int] = []

    def take(self, offset: int, appended_ns: int, payload: bytes | None) -> None:
        """The next record of the control topic, and when the broker took it."""
        self.heard += 1
        self._in_force.take(offset, payload)
        latched = self._in_force.state()
        state = TradingState.ACTIVE if latched is None else latched.state
        before = self._told[-1].state if self._told else TradingState.ACTIVE
        if state is not before:
            # Times of a log do not fall, but for what its clock did.
            at_ns = max(appended_ns, self._times[-1] if self._times else appended_ns)
            self._told.append(Stop(at_ns, offset + 1, state))
            self._times.append(at_ns)

    def refusal(self, order: NewOrder, appended_ns: int) -> str:
        """Why an order that came at this time is not taken; "" where it is.

        A killed desk has no orders. Under a lesser stop those are taken that were decided knowing it: they shrink
        a position.
        """
        place = bisect_right(self._times, appended_ns)
        if place == 0:
            return ""
        stop = self._told[place - 1]
        if stop.state is TradingState.KILLED:
            return "the desk is killed"
        if SEVERITY[stop.state] > 0 and order.state_version < stop.version:
            return f"decided before the desk was {stop.state}"
        return ""
