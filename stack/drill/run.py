"""The whole drill on a desk of its own: healthy, hurt, killed, put aside, deleted, restored."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from stack.drill.alarms import Alarms, Heard
from stack.drill.desk import Desk
from stack.drill.faults import FAULTS, Fault
from stack.drill.own_disk import own_disk
from stack.drill.pictures import draw
from stack.drill.putting_aside import put_aside_and_restore
from stack.drill.receiver import receiving
from stack.drill.recovery import counted, recoveries
from stack.drill.steady_load import SteadyLoad, find_rate
from stack.drill.table import (
    FAULTS_OF_RATE,
    LONGEST_WAIT_MIN,
    RATES_HZ,
    TOLD_GOAL_S,
    DrillReport,
    FaultTold,
    Recovery,
)
from stack.drill.wounds import WOUNDS
from stack.processes.desk import answered
from stack.processes.scrape import Scrape
from stack.servers import prometheus
from stack.servers.settings import ServerPorts, StackSettings
from stack.supervision.lifecycle import down, up
from stack.supervision.status import ServiceStatus
from stack.watching.alerts import ALERTS
from stack.watching.boards import DESK, LATENCY, SERVERS
from trading.errors import ConfigurationError

Show = Callable[[str], None]
MARKET = "simulate:regimes?seed=3&ticks=9000&symbols=3"
#: The three models as one graph: on few cores a call of the ensemble costs three.
MODEL = "trading_decision_fused"
#: Of a desk that nobody watches for health.
SETTLES_S = 20.0
#: Models are loaded, and what compiles is compiled; then the minute must pass over which an alert looks back.
WARM_UP_S, LOOK_S = 120.0, 2.0
#: As long as the alert.
LOOKS_BACK_S = 60
LATE = f"histogram_quantile(0.99, sum by (le) (rate(gateway_tick_seconds_bucket[{LOOKS_BACK_S}s])))"
FIRES_S, CLEARS_S = 120.0, 120.0
#: Nothing was signed for three minutes, and that for half of one.
LATEST_FIRES_S = 300.0
#: What a desk tells before anything is released.
WITHOUT_MODEL = "no model is released"
SEVERITY = {one.name: one.severity for one in ALERTS}


def run_drill(folder: Path, healthy_s: float, only: str, show: Show) -> DrillReport:
    """Do all of it, and take the desk down.

    Args:
        folder: an empty one; the desk, its backup and its logs lie there, those that are left at the end.
        healthy_s: how long a healthy desk under load is watched; it must alarm nobody.
        only: just the faults whose name has this, and nothing else; "" is all.
        show: told what is being done.

    Raises:
        ConfigurationError: Prometheus and Alertmanager are not installed, or no fault has such a name.
        UltraThinkError: a step that nothing else can do without fails.
    """
    faults = chosen(only)
    if prometheus.program() is None or prometheus.alertmanager_program() is None:
        raise ConfigurationError(
            "a drill listens to alerts: install them (Debian: apt-get install prometheus prometheus-alertmanager)"
        )
    with own_disk(folder) as disk, receiving() as told:
        home = (disk or folder) / "desk"
        settings = StackSettings(
            home=home, profile="full", ports=ServerPorts.automatic(), model_repository=home / "models",
            alert_webhook=told.address, desk={"ULTRATHINK_GATEWAY_MODEL_NAME": MODEL},
        )  # fmt: skip
        desk = Desk(settings, Alarms(settings, told), disk)
        try:
            return Drill(desk, show, folder).run(faults, healthy_s, whole=not only)
        finally:
            down(home)
            desk.keep_logs(folder / "logs")


def chosen(only: str) -> list[Fault]:
    """The faults whose name has these letters. Raises ConfigurationError where none has."""
    found = [fault for fault in FAULTS if only.lower() in fault.name.lower()]
    if not found:
        raise ConfigurationError(f"no fault is called {only!r}: {'; '.join(fault.name for fault in FAULTS)}")
    return found


class Drill:
    """One run on one desk."""

    def __init__(self, desk: Desk, show: Show, folder: Path) -> None:
        """Nothing is begun; `folder` is for what is left at the end."""
        self._desk, self._show, self._folder = desk, show, folder
        self._left_out: list[str] = []
        self._problems: list[str] = []
        #: Ticks a second.
        self._rate_hz = RATES_HZ[0]
        #: Fault -> when it was mended: wall time in seconds.
        self._mended_s: dict[str, float] = {}

    def run(self, faults: list[Fault], healthy_s: float, *, whole: bool) -> DrillReport:
        """Every step; where not `whole`, just the faults. One that fails is told of, and the others go on."""
        began, desk = time.monotonic(), self._desk
        told = [self._release()]
        began_s = time.time()
        alarmed, per_s = set[str](), 0.0
        found: list[Recovery] = []
        with self._step("load"), SteadyLoad(desk.settings, self._rate_hz) as load:
            with self._step("a healthy desk"):
                self._warm_up(load, healthy_s)
                alarmed, per_s = self._healthy(healthy_s)
            load.change(self._rate_hz * FAULTS_OF_RATE)
            told += [self.made(fault) for fault in self._possible(faults)]
            load.change(self._rate_hz)
            if whole:
                with self._step("kills"):
                    found = recoveries(desk, MODEL, self._show)
        told = [self.cleared(one) for one in told]
        with self._step("boards"):
            for board in (DESK, LATENCY, SERVERS):
                draw(board, desk.alarms, began_s, time.time(), self._folder / "boards" / f"{board.uid}.png")
        availability, sums, restored = self._availability(), None, None
        if whole:
            with self._step("count"):
                sums = counted(desk)
            desk.keep_logs(self._folder / "logs-before")
            with self._step("backup and restore"):
                restored = put_aside_and_restore(
                    desk, self._folder / "backup", lambda what: self._show(f"the desk {what}")
                )
                told += self._wounded()
        return DrillReport(
            self._rate_hz, healthy_s, per_s, sorted(alarmed), told, found, sums, restored, availability,
            self._left_out, self._problems, round(time.monotonic() - began, 1),
        )  # fmt: skip

    @contextmanager
    def _step(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # noqa: BLE001 - the rest of an hour's work goes on, and this is told
            self._problems.append(f"{what}: {error}" if str(error) else f"{what}: {error!r}")

    def _availability(self) -> dict[str, float]:
        """Share of the time in which each answered; before the desk is ended, which is no outage."""
        rows: list[ServiceStatus] = []
        with self._step("availability"):
            rows = self._desk.status().services
        return {row.name: row.day for row in rows if row.day is not None}

    def _wounded(self) -> list[FaultTold]:
        with SteadyLoad(self._desk.settings, self._rate_hz * FAULTS_OF_RATE, seed=23):
            made = [self.made(fault, LATEST_FIRES_S) for fault in WOUNDS]
        return [self.cleared(one) for one in made]

    def _release(self) -> FaultTold:
        """A desk without a model waits, and says so; then one is trained and released."""
        desk, began = self._desk, time.time()
        self._show("starts a desk without a model")
        up(desk.settings, lambda _: None)
        self._show("trains")
        desk.ran("train", "all", "--data", MARKET)
        heard = desk.alarms.wait_until_told(["ModelMissing"], began, FIRES_S, self._show)
        self._show("exports and releases")
        desk.ran("export", "pipeline", "trading_decision", "--fuse", "--release")
        desk.wait_until_ready("gateway")
        return self._told(WITHOUT_MODEL, heard, 0.0)

    def _warm_up(self, load: SteadyLoad, healthy_s: float) -> None:
        """Until all is compiled, the desk decides with time to spare, and nothing fires of before."""
        self._show("warms up")
        time.sleep(WARM_UP_S if healthy_s else SETTLES_S)
        # Who does not watch its health needs no figure of it.
        if not healthy_s:
            return
        # After a change, what waited is decided first, and then the seconds must pass that are looked back on.
        self._rate_hz = find_rate(self._late_s, load.change, lambda: time.sleep(LOOKS_BACK_S * 1.5))
        if self._rate_hz < RATES_HZ[0]:
            self._desk.alarms.wait_until_quiet(self._desk.alarms.active(), CLEARS_S, self._show, pending=True)

    def _late_s(self) -> float:
        """Within so long 99 of 100 ticks were decided lately; no number where nobody knows."""
        late_s = max((float(one["value"][1]) for one in self._desk.alarms.ask(LATE)), default=math.nan)
        self._show(f"decides 99 of 100 ticks within {late_s * 1e3:.0f} ms")
        return late_s

    def _healthy(self, seconds: float) -> tuple[set[str], float]:
        """What fires meanwhile, and how many ticks a second are decided."""
        desk, alarmed = self._desk, set[str]()
        began, before = time.monotonic(), self._decided()
        while (left := began + seconds - time.monotonic()) > 0:
            self._show(f"is healthy: {left:.0f} s left")
            alarmed |= desk.alarms.firing()
            time.sleep(LOOK_S)
        return alarmed, round((self._decided() - before) / (time.monotonic() - began), 1)

    def _decided(self) -> float:
        told = answered(f"{self._desk.row('gateway').endpoint}/metrics")
        return Scrape.of(told, {}).value("gateway_ticks_total")

    def _possible(self, faults: list[Fault]) -> list[Fault]:
        if self._desk.disk is not None:
            return faults
        left = [fault for fault in faults if "DiskNearlyFull" in fault.alerts]
        self._left_out += [f"{fault.name}: no disk of its own could be mounted here" for fault in left]
        return [fault for fault in faults if fault not in left]

    def made(self, fault: Fault, timeout_s: float = FIRES_S) -> FaultTold:
        """Make a fault, hear what is told of it, mend it."""
        desk = self._desk
        show: Show = lambda what: self._show(f"{fault.name}: {what}")  # noqa: E731 - a name for what is shown
        show("begins")
        # What is active still is of the fault before.
        quiet = desk.alarms.wait_until_quiet(fault.alerts, CLEARS_S, show, pending=True)
        if busy := [alert for alert, seconds in quiet.items() if seconds is None]:
            return self._unmade(fault, f"{', '.join(busy)} is active of something else")
        began = time.time()
        try:
            with fault.make(desk):
                heard = desk.alarms.wait_until_told(fault.alerts, began, timeout_s, show)
        except Exception as error:  # noqa: BLE001 - whatever it is, the other faults are made all the same
            return self._unmade(fault, str(error) or repr(error))
        self._mended_s[fault.name] = time.time()
        if fault.lasting_min == 0.0:
            return self._told(fault.name, heard, 0.0)
        return self._row(fault.name, heard, fault.lasting_min)

    def _unmade(self, fault: Fault, why: str) -> FaultTold:
        return FaultTold(fault.name, [Heard(alert) for alert in fault.alerts], [], problem=why)

    def _told(self, name: str, heard: dict[str, Heard], lasting_min: float) -> FaultTold:
        quiet = self._desk.alarms.wait_until_quiet(heard, CLEARS_S, self._show)
        cleared = {
            alert: Heard(alert, one.fired_s, one.told, one.silenced_by, quiet[alert])
            for alert, one in heard.items()
        }
        return self._row(name, cleared, lasting_min)

    def _row(self, name: str, heard: dict[str, Heard], lasting_min: float) -> FaultTold:
        late = [
            alert
            for alert, one in heard.items()
            if one.told is not None and one.told > TOLD_GOAL_S[SEVERITY[alert]]
        ]
        return FaultTold(name, list(heard.values()), late, lasting_min)

    def cleared(self, told: FaultTold) -> FaultTold:
        """Of alerts that look back: wait until they see nothing any more."""
        if not told.lasting_min or told.lasting_min > LONGEST_WAIT_MIN or told.problem:
            return told
        since_s, wait_s = self._mended_s[told.fault], LONGEST_WAIT_MIN * 60
        names = [one.alert for one in told.heard]
        heard = {one.alert: one for one in told.heard}
        for alert, quiet_s in self._desk.alarms.wait_until_quiet(names, wait_s, self._show).items():
            one, cleared_s = heard[alert], None
            if quiet_s is not None:
                # It may have been over for long: others were made meanwhile.
                cleared_s = self._desk.alarms.fired_last_s(alert, since_s) - since_s
            heard[alert] = Heard(one.alert, one.fired_s, one.told, one.silenced_by, cleared_s)
        return self._row(told.fault, heard, told.lasting_min)


def main_folder(keep: Path) -> Path:
    """A folder to work in. Raises ConfigurationError where something lies there."""
    if keep.exists() and any(keep.iterdir()):
        raise ConfigurationError(f"{keep} is not empty: name a new folder with --keep")
    keep.mkdir(parents=True, exist_ok=True)
    return keep.resolve()
