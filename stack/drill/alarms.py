"""What Prometheus and Alertmanager say: which alerts fire, since when, and who was told."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Any

import httpx
from msgspec import Struct

from stack.drill.receiver import FIRING, Told, began_s
from stack.servers.loopback import client
from stack.servers.settings import LOOPBACK, StackSettings
from trading.errors import ServiceUnavailable

ASK_S = 10.0
#: Prometheus evaluates its rules as often.
STEP_S = 5
LOOK_S = 0.5


class Heard(Struct, frozen=True):
    """An alert that was made to fire.

    Attributes:
        alert: its name.
        fired_s: from the fault to when its rule fired, by Prometheus' clock; None where it did not in time.
        told: how late after that the webhook was told, seconds; None where nobody was.
        silenced_by: alerts of which this is a consequence, and which therefore keep it silent.
        cleared_s: from mending until it fired no more; None where it still does.
    """

    alert: str
    fired_s: float | None = None
    told: float | None = None
    silenced_by: tuple[str, ...] = ()
    cleared_s: float | None = None

    @property
    def ok(self) -> bool:
        """It fired, and somebody was told of it or of its cause."""
        return self.fired_s is not None and (self.told is not None or bool(self.silenced_by))


class Alarms:
    """Asks both servers of one desk."""

    def __init__(self, settings: StackSettings, told: Told) -> None:
        """`told` is the webhook that the desk's Alertmanager was given."""
        self._prometheus = f"http://{LOOPBACK}:{settings.ports.prometheus}"
        self._alertmanager = f"http://{LOOPBACK}:{settings.ports.alertmanager}"
        self.told = told

    def ask(self, expression: str) -> list[dict[str, Any]]:
        """The answer to an expression of PromQL now. Raises ServiceUnavailable where Prometheus has none."""
        found: list[dict[str, Any]] = self._told_by_prometheus("query", query=expression)["result"]
        return found

    def ask_range(self, expression: str, since_s: float, until_s: float, step_s: int) -> list[dict[str, Any]]:
        """The answers to an expression between two moments of wall time. Raises ServiceUnavailable."""
        told = self._told_by_prometheus(
            "query_range", query=expression, start=str(since_s), end=str(until_s), step=str(step_s)
        )
        found: list[dict[str, Any]] = told["result"]
        return found

    def fired_last_s(self, name: str, since_s: float) -> float:
        """When an alert was last seen to fire after a moment, wall time; that moment where it was not."""
        found = self.ask_range(f'ALERTS{{alertname="{name}", alertstate="{FIRING}"}}', since_s, time.time(), STEP_S)
        return max([since_s, *(float(at_s) for series in found for at_s, _ in series["values"])])

    def firing(self) -> set[str]:
        """Names of alerts that fire now. Raises ServiceUnavailable.

        Not by the series ALERTS: what fired when Prometheus ended still seems to for five minutes after its start.
        """
        return {name for name, state in self._active() if state == FIRING}

    def active(self) -> set[str]:
        """Names of alerts that fire, or will if what they mean goes on. Raises ServiceUnavailable."""
        return {name for name, _ in self._active()}

    def _active(self) -> list[tuple[str, str]]:
        found = self._told_by_prometheus("alerts")["alerts"]
        return [(one["labels"]["alertname"], one["state"]) for one in found]

    def _told_by_prometheus(self, what: str, **asked: str) -> Any:
        address = f"{self._prometheus}/api/v1/{what}"
        try:
            found = client().get(address, params=asked, timeout=ASK_S).json()
        except (httpx.HTTPError, ValueError) as error:
            raise ServiceUnavailable(f"{address} does not answer: {error}") from error
        if found.get("status") != "success":
            raise ServiceUnavailable(f"{address} refuses {asked}: {found.get('error', found)}")
        return found["data"]

    def silenced(self) -> dict[str, tuple[str, ...]]:
        """Alert -> what keeps it silent, by name; the others are left out. Raises ServiceUnavailable."""
        address = f"{self._alertmanager}/api/v2/alerts"
        try:
            found = client().get(address, timeout=ASK_S).raise_for_status().json()
        except (httpx.HTTPError, ValueError) as error:
            raise ServiceUnavailable(f"{address} does not answer: {error}") from error
        names = {one["fingerprint"]: one["labels"]["alertname"] for one in found}
        return {
            one["labels"]["alertname"]: tuple(sorted({names.get(by, by) for by in one["status"]["inhibitedBy"]}))
            for one in found
            if one["status"]["inhibitedBy"]
        }

    def wait_until_told(
        self, wanted: Collection[str], since_s: float, timeout_s: float, show: Callable[[str], None]
    ) -> dict[str, Heard]:
        """Until each has fired after a moment and somebody was told of it or of what silences it.

        Args:
            wanted: names of alerts that were not active before.
            since_s: wall time of the fault.
            timeout_s: after which what is there is told.
            show: hears what is waited for.
        """
        found = {name: Heard(name) for name in wanted}
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            try:
                firing, silenced = self.firing(), self.silenced()
            except ServiceUnavailable as error:
                show(str(error))
                time.sleep(LOOK_S)
                continue
            for name, heard in found.items():
                # It may have fired and cleared before anybody looked.
                fired = name in firing or heard.fired_s is not None or self.told.first(name, since_s=since_s)
                if not heard.ok and fired:
                    found[name] = self._heard(heard, since_s, silenced.get(name, ()))
            if not (left := [name for name, heard in found.items() if not heard.ok]):
                break
            show(f"waits for {', '.join(left)}")
            time.sleep(LOOK_S)
        return found

    def _heard(self, heard: Heard, since_s: float, silenced_by: tuple[str, ...]) -> Heard:
        fired_s = heard.fired_s if heard.fired_s is not None else round(time.time() - since_s, 1)
        if (came := self.told.first(heard.alert, since_s=since_s)) is None:
            return Heard(heard.alert, fired_s, None, silenced_by)
        at_s, one = came
        fired_at_s = began_s(one)
        return Heard(heard.alert, round(fired_at_s - since_s, 1), round(max(0.0, at_s - fired_at_s), 1))

    def wait_until_quiet(
        self, names: Collection[str], timeout_s: float, show: Callable[[str], None], *, pending: bool = False
    ) -> dict[str, float | None]:
        """Alert -> seconds until it fired no more, or with `pending` was about to; None where it still does."""
        began = time.monotonic()
        quiet: dict[str, float | None] = dict.fromkeys(names)
        while time.monotonic() - began < timeout_s:
            try:
                firing = self.active() if pending else self.firing()
            except ServiceUnavailable as error:
                # Of one that does not answer nobody knows that it is quiet.
                show(str(error))
                time.sleep(LOOK_S)
                continue
            now_s = round(time.monotonic() - began, 1)
            quiet = {name: now_s if s is None and name not in firing else s for name, s in quiet.items()}
            if not (left := [name for name, seconds in quiet.items() if seconds is None]):
                break
            show(f"until {', '.join(left)} cleared")
            time.sleep(LOOK_S)
        return quiet
