"""What Prometheus is told of the orchestrator."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

from connectors.listening import own_registry
from trainers.orchestrator.admission import Pool, Taken
from trainers.orchestrator.cycle import KINDS, REJECT, RunState, Verdict
from trainers.orchestrator.store.history import Counts

STEPS = sorted({step for steps in KINDS.values() for step in steps} | {REJECT})
FINDINGS = ("drift", "decay")
MB = 2**20


class OrchestratorMetrics:
    """Gauges of what stands in PostgreSQL, looked at with each sweep."""

    def __init__(self) -> None:
        """Nothing is known yet; what may come has a figure from the start."""
        self.registry = own_registry()
        self._runs = Gauge(
            "orchestrator_runs", "Runs that have not ended, by the step that they stand at, and how.",
            ["step", "state"], registry=self.registry,
        )  # fmt: skip
        self._ended = Gauge(
            "orchestrator_runs_ended_1d", "Runs that ended within a day, by verdict.", ["verdict"],
            registry=self.registry,
        )  # fmt: skip
        self._oldest = Gauge(
            "orchestrator_oldest_ready_seconds", "How long the oldest run waits whose step may begin.",
            registry=self.registry,
        )  # fmt: skip
        self._memory = Gauge(
            "orchestrator_memory_bytes", "Memory of the pool that steps were promised, and all of it.", ["what"],
            registry=self.registry,
        )  # fmt: skip
        self._gpu = Gauge(
            "orchestrator_gpu_memory_bytes", "GPU memory of the pool that steps were promised, and all of it.",
            ["what"], registry=self.registry,
        )  # fmt: skip
        self._paused = Gauge(
            "orchestrator_paused", "1 while steps stand still, so that the desk is quick.", registry=self.registry
        )
        self._waiting = Gauge(
            "orchestrator_waiting", "1 while the orchestrator cannot look at its runs.", registry=self.registry
        )
        self._taken_back, self._found = findings(self.registry)
        self._lost = Counter(
            "orchestrator_steps_lost", "Attempts that nobody heard of any more, or that were ended.",
            registry=self.registry,
        )  # fmt: skip
        self._memory_out = Counter(
            "orchestrator_steps_out_of_memory", "Attempts that ran out of memory.", registry=self.registry
        )
        for step in STEPS:
            for state in (RunState.READY, RunState.RUNNING):
                self._runs.labels(step, state)
        for verdict in Verdict:
            if verdict:
                self._ended.labels(verdict)

    def stands(self, counts: Counts, pool: Pool, taken: Taken, *, paused: bool) -> None:
        """How runs stand, and what of the pool is taken."""
        for step in STEPS:
            for state in (RunState.READY, RunState.RUNNING):
                self._runs.labels(step, state).set(counts.open.get((step, state), 0))
        for verdict in Verdict:
            if verdict:
                self._ended.labels(verdict).set(counts.ended.get(verdict, 0))
        self._oldest.set(counts.oldest_ready_s)
        self._taken_back.set(counts.taken_back)
        for kind in FINDINGS:
            self._found.labels(kind).set(kind in counts.found)
        for gauge, whole, used in (
            (self._memory, pool.memory_mb, taken.memory_mb),
            (self._gpu, pool.gpu_mb, taken.gpu_mb),
        ):
            gauge.labels("pool").set(whole * MB)
            gauge.labels("promised").set(used * MB)
        self._paused.set(paused)

    def waits(self, problem: str) -> None:
        """Whether it can look at its runs."""
        self._waiting.set(bool(problem))

    def lost(self) -> None:
        """An attempt was lost."""
        self._lost.inc()

    def out_of_memory(self) -> None:
        """An attempt ran out of memory."""
        self._memory_out.inc()


def findings(registry: CollectorRegistry) -> tuple[Gauge, Gauge]:
    """What was taken back, and what the newest check has found."""
    taken_back = Gauge(
        "orchestrator_taken_back_1d", "Promoted versions that were taken back within a day.", registry=registry
    )
    found = Gauge(
        "orchestrator_found", "1 where the newest check has found it: drift or decay.", ["kind"], registry=registry
    )
    for kind in FINDINGS:
        found.labels(kind)
    return taken_back, found
