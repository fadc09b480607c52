"""The desk's stops, as the broker hears them: what was decided before a stop is not taken after it."""

from __future__ import annotations

from trading.control import InForce
from trading.events import NewOrder
from trading.risk.trading_state import SEVERITY, TradingState

#: No order is decided knowing of a stop that is in no log of ours.
NEVER = 2**63


class Stops:
    """The trading state that the control topic told last.

    Attributes:
        heard: records that were taken.
    """

    def __init__(self) -> None:
        self._in_force = InForce()
        self._state, self._version = TradingState.ACTIVE, 0
        self.heard = 0

    def take(self, offset: int, payload: bytes | None) -> None:
        """The next record of the control topic."""
        self.heard += 1
        self._in_force.take(offset, payload)
        latched = self._in_force.state()
        state = TradingState.ACTIVE if latched is None else latched.state
        if self._in_force.severed:
            self._version = NEVER
        elif state is not self._state:
            self._version = offset + 1
        self._state = state

    @property
    def killed(self) -> bool:
        """Whether a killed desk has no orders: neither new ones nor those that work."""
        return self._state is TradingState.KILLED

    def refusal(self, order: NewOrder) -> str:
        """Why an order that comes now is not taken; "" where it is.

        A killed desk has no orders. Under a lesser stop those are taken that were decided knowing it: they shrink
        a position.
        """
        if self.killed:
            return "the desk is killed"
        if SEVERITY[self._state] > 0 and order.state_version < self._version:
            return f"decided before the desk was {self._state}"
        return ""
