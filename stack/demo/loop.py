"""The loop closed, unattended, on the real servers: a market turns, and the desk learns it; it turns back, and what
was learned is taken back.

The champion has learned from a market whose quotes foretell its moves. Checks of what the desk lives see nothing,
until the market turns and quotes foretell the opposite. Then a check finds it, an update begins by itself, passes
the gates, is exported, verified, compared beside the desk and on a share of it, and becomes the champion. The
market turns back; what was right an hour ago is wrong, and the watch over the new champion has the last good one
serve again, byte for byte. Nobody commands any of it: this only makes the market, and reads what was done.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from gateway.control.control import Control
from gateway.settings import GatewaySettings
from stack.chaos.step_kills import StepKills
from stack.demo.experiment import FUSED, HORIZON, PATIENT
from stack.demo.live_market import LiveMarket
from stack.demo.loop_shown import LoopShown, LoopStep
from stack.demo.run import LIMITS
from stack.processes.data import running_data
from stack.processes.experiments import running_experiments
from stack.processes.gateway import running_gateway
from stack.processes.orchestrator import running_orchestrator
from stack.processes.settings import gateway_settings, orchestrator_settings
from stack.servers.settings import StackSettings
from stack.workflows.asking import place_of_models
from stack.workflows.experiments.commanding import experiment_of
from stack.workflows.experiments.deciding import decides, deciding_since
from stack.workflows.export_workflow import export
from stack.workflows.orchestrator.guarding import TAKEN_BACK
from stack.workflows.training.settings import TrainRequest
from stack.workflows.training.train import train
from trading.errors import ConfigurationError
from trading.experiments.definition import ServedModel
from trading.files import write_atomically
from trading.history.archive import read_head
from trading.history.simulate import BRIEF, BRIEF_CONTRARY, Market
from trading.risk import limits_file
from trainers.orchestrator.cycle import RunState, Verdict
from trainers.orchestrator.migrations import prepare
from trainers.orchestrator.runs import Run
from trainers.orchestrator.store import Store

#: Where nothing is compared ticks need not hurry; a second of event time is a hundred ticks.
QUIET_HZ, BUSY_HZ = 50.0, 1500.0
SYMBOLS, SEED = 4, 99
TAUGHT = f"simulate:brief?seed=2&ticks=60000&symbols={SYMBOLS}"
#: The spread alone: what a simulated market foretells would not pay for more.
COSTS = {"fee_bps": 0.0, "slippage_bps": 0.0}
#: Ticks that show what is usual; the market turns when there are some more.
REFERENCE, USUAL, LOOKED_AT = 48_000, 60_000, 24_000
CHECK_TICKS = 30_000
LOOK_S, MOST_S = 0.5, 1_500.0
#: A step that is none forward is no fault, and the market goes on.
MOST_UPDATES = 3
COMPARED = frozenset({"shadow", "canary", "promote"})
#: What an update of ten minutes of a simulated market cannot show: live ticks show it.
ANSWERED = (
    "edge", "deflated sharpe", "overfitting probability", "agreement", "calibration error", "disruption mean",
    "best information coefficient", "beats equal weights", "beats the best single strategy",
)  # fmt: skip
BLOCK = "1s"
CHECK: dict[str, Any] = {
    "reference": REFERENCE, "ticks": 2 * LOOKED_AT, "costs": COSTS,
    "drift": {"block_rows": 750, "rows_between_false": 1_000_000},
}  # fmt: skip
UPDATE: dict[str, Any] = {
    "ticks": LOOKED_AT, "fresh": 10_000, "overrides": {"demo": ANSWERED},
    "learning": {"steps": 400, "learning_rate": 0.002, "most_distance": 0.4, "distance_penalty": 0.1,
                 "replayed": 0.25, "fresh": 0.55, "held": 0.15, "costs": COSTS},
    "comparison": {
        "costs": COSTS,
        "block": BLOCK, "planned_blocks": 600, "primary": {"effect": 0.01},
        "at_least": {"blocks": 100, "span": "1m"},
        "guardrails": [{"metric": "drawdown", "tolerance": 60.0}, {"metric": "error_rate", "tolerance": 0.5}],
        "shadow_blocks": 20, "steps": [0.1, 0.5, 1.0], "step_blocks": 5, "most": "1h",
    },
    # What has learned the market's turn trades more than what is wrong about it, and is wilder for that alone: here
    # it is taken back for what it earns.
    "guard": {"blocks": 2_000, "volatility": 100.0},
}  # fmt: skip


Stage = Callable[[str], None]
Progress = Callable[[str, int, int], None]


class Telling(Struct, frozen=True):
    """Who is told what is done, how far it is, and since when, by this process' clock."""

    stage: Stage
    progress: Progress
    began_s: float


def run(settings: StackSettings, stage: Stage, progress: Progress, seed: int | None = None) -> LoopShown:
    """The whole of it, on servers that are up; with a seed each step of the update and the watch is killed once.

    Raises ConfigurationError where something does not come.
    """
    with environment("ULTRATHINK_GATEWAY_MODEL_NAME", FUSED):
        return closed(settings, stage, progress, seed)


@contextmanager
def environment(name: str, value: str) -> Iterator[None]:
    """A variable for this process, and those that it starts."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before


def closed(settings: StackSettings, stage: Stage, progress: Progress, seed: int | None) -> LoopShown:
    """As `run`, of a desk that is decided by one graph."""
    began_s = time.monotonic()
    stage(f"train the champion on {TAUGHT}")
    train(TrainRequest((TAUGHT,), horizon=HORIZON, folds=1), progress)
    stage("export and release it")
    export(lambda _: None, fuse=True)
    desk = gateway_settings()
    control = Control(settings.kafka_bootstrap, desk.control_topic, settings.redis_url)
    control.apply(limits_file.read(LIMITS), "the demo's desk", "loop demo")
    with ExitStack() as opened:
        stage("start gateway, data service, watchers and orchestrator")
        opened.enter_context(running_experiments(settings, share=1.0, keep_s=0.5))
        opened.enter_context(running_data(settings, flush_s=2))
        gateway = opened.enter_context(running_gateway(settings, **PATIENT))
        opened.enter_context(running_orchestrator(settings, **asked_of_the_orchestrator(settings.absolute_home)))
        gateway.wait_for_partitions()
        market = LiveMarket(
            settings.kafka_bootstrap, desk.ticks_topic, Market((BRIEF,), SEED, SYMBOLS), BUSY_HZ
        )  # fmt: skip
        url = orchestrator_settings().postgres_url.get_secret_value()
        prepare(url)
        store = opened.enter_context(closing(Store(url)))
        opened.enter_context(market.open())
        kills = None if seed is None else StepKills(store, seed, frozenset({"update", "guard"}))
        loop = Loop(market, store, desk, Telling(stage, progress, began_s), kills)
        loop.run()
        loop.shown.kills = [] if kills is None else kills.found()
    loop.shown.seconds = round(time.monotonic() - began_s, 1)
    return loop.shown


def asked_of_the_orchestrator(home: Path) -> dict[str, Any]:
    """Its settings: checks after so many ticks, and an update where one finds something."""
    folder = home / "loop"
    folder.mkdir(exist_ok=True)
    for name, spec in (("check", CHECK), ("update", UPDATE)):
        write_atomically(folder / f"{name}.json", msgspec.json.encode(spec).decode())
    return {
        "memory_mb": 6_000, "desk_metrics": "", "archive": home / "archive", "check_ticks": CHECK_TICKS,
        "check": folder / "check.json", "update": folder / "update.json", "on_drift": "update",
        "on_decay": "update", "cool_down": "1s", "most_a_day": MOST_UPDATES,
    }  # fmt: skip


class Loop:
    """The market, as it turns with what the desk does; and what was done.

    Attributes:
        shown: what is known so far.
    """

    def __init__(
        self, market: LiveMarket, store: Store, desk: GatewaySettings, telling: Telling, kills: StepKills | None
    ) -> None:
        """Nothing has happened yet; `kills` hurt what runs."""
        self._market, self._store, self._desk, self._kills = market, store, desk, kills
        self._stage, self._progress, self._began_s = telling.stage, telling.progress, telling.began_s
        self._told: set[tuple[str, int]] = set()
        self._turned = 0
        self.shown = LoopShown([])

    def run(self) -> None:
        """Until what was learned was taken back. Raises ConfigurationError where something does not come."""
        champion = self._until("the champion decides", lambda: decides(self._desk))
        self.shown.champion = str(champion)
        files = files_of(champion)
        self._until(f"{USUAL:,} ticks were lived", self._usual, lambda: (self._archived(), USUAL))
        self._turn(BRIEF_CONTRARY, "the market turns: its quotes foretell the opposite of what they did")
        update = self._learned()
        self.shown.promoted = str(update.outputs["promote"]["served"])
        self._until("the watch over it has begun", lambda: self._watching(update))
        self._turn(BRIEF, "the market turns back: what was learned is wrong now")
        guard = self._until("it is taken back", lambda: self._ended(update.outputs["promote"]["guard"]))
        if guard.verdict is not Verdict.REJECTED:
            raise ConfigurationError(f"the watch has {guard.verdict}: {guard.why or guard.outputs}")
        self.shown.taken_back = guard.why
        self.shown.rollback_s = self._rollback_s(guard)
        self.shown.same_bytes = decides(self._desk) == champion and files_of(champion) == files

    def _learned(self) -> Run:
        """The update that is promoted: one that is no step forward is followed by the next that a check begins.

        Raises ConfigurationError where several are not.
        """
        rejected: set[str] = set()
        while True:
            newest = partial(self._newest, "update", rejected)
            begun: Run = self._until("a check has found it, and an update has begun", newest)
            if not rejected:
                self._note_found(begun)
            self._market.rate_hz = QUIET_HZ
            update: Run = self._until("the update has come to something", partial(self._ended, begun.id))
            if update.verdict is Verdict.SUCCEEDED:
                return update
            rejected.add(update.id)
            if len(rejected) == MOST_UPDATES:
                raise ConfigurationError(f"the update has {update.verdict}: {update.why}")
            self._stage(f"the update has {update.verdict}: the market goes on, and another check looks again")
            self._market.rate_hz = BUSY_HZ

    def _until(
        self, what: str, reached: Callable[[], Any], counted: Callable[[], tuple[int, int]] = lambda: (0, 0)
    ) -> Any:
        """Wait for something; each step that ends meanwhile is told. Raises ConfigurationError."""
        while True:
            self._market.check()
            if self._kills is not None:
                self._kills.look()
            self._tell()
            if (found := reached()) is not None:
                return found
            if time.monotonic() - self._began_s > MOST_S:
                raise ConfigurationError(f"after {MOST_S:,.0f} s there is no sign that {what}")
            self._progress(f"until {what}", *counted())
            time.sleep(LOOK_S)

    def _turn(self, regime: Any, why: str) -> None:
        self._market.turn(regime)
        self._market.rate_hz = BUSY_HZ
        self._turned = self._market.sent
        self._stage(f"{why} (after {self._turned:,} ticks)")

    def _usual(self) -> bool | None:
        return True if self._archived() >= USUAL else None

    @staticmethod
    def _archived() -> int:
        archive = orchestrator_settings().archive
        head = None if archive is None else read_head(archive)
        return 0 if head is None else sum(one.next_offset for one in head.partitions.values())

    def _newest(self, kind: str, but: Collection[str]) -> Run | None:
        found = (run for run in self._store.runs.listed(20) if run.request.kind == kind)
        return next((run for run in found if run.id not in but), None)

    def _ended(self, run: str) -> Run | None:
        found = self._store.runs.get(run)
        if found.request.kind == "update":
            self._market.rate_hz = BUSY_HZ if found.step in COMPARED else QUIET_HZ
        return found if found.state is RunState.ENDED else None

    def _watching(self, update: Run) -> bool | None:
        guard = self._store.runs.get(update.outputs["promote"]["guard"])
        if guard.state is RunState.ENDED:
            raise ConfigurationError(f"the watch has {guard.verdict}: {guard.why}")
        return True if guard.progress.get("done") else None

    def _note_found(self, update: Run) -> None:
        told = self._store.runs.get(self._found_by(update))
        self.shown.alarms = told.outputs["assess"]["alarms"]
        self.shown.found_after = self._market.sent - self._turned

    def _found_by(self, update: Run) -> str:
        """The check that has found what the update begins for."""
        checks = (run for run in self._store.runs.listed(50, "ended") if run.request.kind == "check")
        for one in checks:
            if one.outputs.get("assess", {}).get("kinds"):
                return one.id
        raise ConfigurationError(f"update {update.id} began, and no check says why")

    def _tell(self) -> None:
        """Each step that has ended since."""
        for run in reversed(self._store.runs.listed(20)):
            for attempt in self._store.runs.attempts(run.id):
                if attempt.end is None or (run.id, attempt.fence) in self._told:
                    continue
                self._told.add((run.id, attempt.fence))
                output = run.outputs.get(attempt.step) or {}
                summary = attempt.why or str(output.get("summary", ""))
                at_s = round(time.monotonic() - self._began_s, 1)
                step = LoopStep(run.id, run.request.kind, attempt.step, at_s, str(attempt.end), summary)
                self.shown.steps.append(step)
                self._stage(f"{step.kind} {run.id[:6]} {step.step}: {step.end}. {summary}"[:600])

    def _rollback_s(self, guard: Run) -> float | None:
        """From the word that what was promoted is taken back to the gateway that asks the last good one."""
        experiment = experiment_of(self._desk, f"run-{guard.id}")
        known = next(
            (s.at_ns for s in experiment.said if s.act == "stop" and s.reason.startswith(TAKEN_BACK)), None
        )
        since = deciding_since(self._desk)
        return None if known is None or since is None else round((since[1] - known) / 1e9, 2)


def files_of(model: ServedModel) -> dict[str, str]:
    """SHA-256 of each of its files, which are what they say."""
    return dict(place_of_models().repository.verified_lineage(model.model, model.version).files)
