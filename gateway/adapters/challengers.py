"""Canaries' challengers: found where a Triton serves them, kept connected, and asked behind a breaker each.

The control topic says which experiments divide units; that counts at once. Which challengers are served is looked
at off the path: a row whose challenger is not there yet, or not any more, is the champion's.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import structlog
from msgspec import Struct

from gateway.adapters.triton import TritonPredictor
from gateway.breaker import CircuitBreaker
from gateway.ports import ChallengerModel, PendingPrediction, RunningCanary
from gateway.workers import Worker
from trading.arrays import Float32Array
from trading.errors import ContractMismatch, PredictionError, PredictorUnavailable, ServiceUnavailable
from trading.experiments.arms import Arm
from trading.experiments.register import Experiment, canaries, dividing
from trading.models.copies import challenger_name
from trading.models.prediction import Prediction
from trading.models.serving import ServingFacts
from trading.models.signature import TRADING_DECISION, contract

log = structlog.get_logger()
#: Between two looks at what is served, and before one that was not found is looked for again.
LOOK_S, AGAIN_S = 1.0, 2.0
#: Until what is no longer wanted is closed: longer than any batch.
CLOSE_AFTER_S = 10.0
#: Of a challenger that keeps failing: it is not waited for, and tried again so soon.
FAILURES, PAUSE_S, LONGEST_PAUSE_S = 5, 1.0, 30.0


class ServedChallenger(Protocol):
    """A version that is asked; see TritonPredictor."""

    def begin(self, features: Float32Array) -> PendingPrediction:
        """Ask, and do not wait. Raises PredictionError."""

    def settle_rows(self, probe: Float32Array) -> ServingFacts:
        """Learn what a row's answer depends on. Raises ServiceUnavailable."""

    def is_served(self) -> bool:
        """Whether its version answers. Raises ServiceUnavailable."""

    def close(self) -> None:
        """Free the connection."""


#: Connects to a version: address, name, version. Raises ServiceUnavailable, ContractMismatch.
Connect = Callable[[str, str, str], ServedChallenger]


class Wanted(Struct, frozen=True):
    """A challenger of an experiment."""

    experiment: str
    model: str
    version: int


class GuardedChallenger:
    """Implements ChallengerModel: one that keeps failing is not asked for a while."""

    def __init__(self, inner: ServedChallenger, breaker: CircuitBreaker) -> None:
        self.inner, self.breaker = inner, breaker

    def begin(self, features: Float32Array) -> PendingPrediction:
        """Ask, or refuse at once."""
        if not self.breaker.allows():
            raise PredictorUnavailable("the challenger's circuit breaker is open")
        try:
            return GuardedAnswer(self.inner.begin(features), self.breaker)
        except Exception:
            self.breaker.failed()
            raise


class GuardedAnswer:
    """Implements PendingPrediction: tells the breaker how it ended."""

    def __init__(self, pending: PendingPrediction, breaker: CircuitBreaker) -> None:
        self._pending, self._breaker = pending, breaker

    def result(self, timeout_s: float) -> Prediction:
        """Wait for it."""
        try:
            found = self._pending.result(timeout_s)
        except Exception:
            self._breaker.failed()
            raise
        self._breaker.succeeded()
        return found


class Challengers:
    """Implements Canaries; begun by `worker.start()`."""

    def __init__(
        self,
        addresses: Sequence[str],
        said: Callable[[], Mapping[str, Experiment]],
        probe: Float32Array,
        connect: Connect = TritonPredictor,
    ) -> None:
        """Nothing is connected yet.

        Args:
            addresses: host:port of each Triton's gRPC.
            said: the experiments, as the control topic has them; another object where anything changed.
            probe: float32 [n, 32], to learn what a row's answer depends on.
            connect: to a version.
        """
        self._addresses, self._said, self._probe, self._connect = addresses, said, probe, connect
        self._served: Mapping[Wanted, GuardedChallenger] = {}
        #: Why one is not served, and when it is looked for again.
        self._lacking: dict[Wanted, tuple[str, float]] = {}
        self._retired: list[tuple[float, GuardedChallenger]] = []
        self._seen: tuple[object, object] = (None, None)
        self._running: Sequence[RunningCanary] = ()
        self._ended = threading.Event()
        self.worker = Worker("challengers", self._look_after)

    def running(self) -> Sequence[RunningCanary]:
        """As the control topic says by now, with what is served by now."""
        said, served = self._said(), self._served
        if self._seen[0] is not said or self._seen[1] is not served:
            self._running = tuple(running_of(one, served) for one in dividing(said))
            self._seen = (said, served)
        return self._running

    def status(self) -> list[dict[str, object]]:
        """What a person may ask of the experiments that divide units."""
        served, lacking = self._served, dict(self._lacking)
        return [
            {
                "experiment": one.definition.name,
                "share": one.share,
                "from_block": one.steps[-1].from_block,
                "challengers": {
                    challenger.arm: served[wanted].breaker.state.value
                    if wanted in served
                    else lacking.get(wanted, ("it was not looked for yet", 0.0))[0]
                    for challenger, wanted in zip(one.definition.challengers, wanted_of(one), strict=True)
                },
            }
            for one in dividing(self._said())
        ]

    def close(self) -> None:
        """End the thread, and close all connections."""
        self._ended.set()
        if self.worker.is_alive():
            self.worker.join(LOOK_S + CLOSE_AFTER_S)
        for one in (*self._served.values(), *(one for _, one in self._retired)):
            one.inner.close()

    def _look_after(self) -> None:
        # At once: a gateway that starts anew has its challengers before it has its first partition.
        self.look()
        while not self._ended.wait(LOOK_S):
            self.look()

    def look(self) -> None:
        """Connect to what is wanted and served, and let go of what is not."""
        # Before they have a share, too: they are there when they are given one.
        wanted = {one: None for experiment in canaries(self._said()) for one in wanted_of(experiment)}
        kept = {one: model for one, model in self._served.items() if one in wanted and still_served(model)}
        now_s = time.monotonic()
        for one in wanted:
            if one not in kept and self._lacking.get(one, ("", 0.0))[1] <= now_s and not self._ended.is_set():
                found = self._found(one)
                if isinstance(found, str):
                    if self._lacking.get(one, ("", 0.0))[0] != found:
                        log.warning(
                            "a challenger is not served", model=one.model, version=one.version, reason=found
                        )
                    self._lacking[one] = found, time.monotonic() + AGAIN_S
                else:
                    self._lacking.pop(one, None)
                    kept[one] = found
        self._lacking = {one: why for one, why in self._lacking.items() if one in wanted}
        gone = [model for one, model in self._served.items() if kept.get(one) is not model]
        self._retired += [(now_s, model) for model in gone]
        if gone or len(kept) != len(self._served):
            self._served = kept
        for _, old in [one for one in self._retired if now_s - one[0] > CLOSE_AFTER_S]:
            old.inner.close()
        self._retired = [one for one in self._retired if now_s - one[0] <= CLOSE_AFTER_S]

    def _found(self, wanted: Wanted) -> GuardedChallenger | str:
        """A challenger by its own name, or by that of its experiment's copy; or why it is nowhere."""
        names = (wanted.model, challenger_name(wanted.model, wanted.version, wanted.experiment))
        failures = []
        for address in self._addresses:
            for name in names:
                if why := not_of_the_gateway(name):
                    return why
                try:
                    found = self._connect(address, name, str(wanted.version))
                except (ServiceUnavailable, ContractMismatch) as error:
                    failures.append(str(error))
                    continue
                try:
                    found.settle_rows(self._probe)
                except (ServiceUnavailable, PredictionError) as error:
                    failures.append(str(error))
                    found.close()
                    continue
                log.info("a challenger may be asked", address=address, model=name, version=wanted.version)
                return GuardedChallenger(found, CircuitBreaker(time.monotonic, FAILURES, PAUSE_S, LONGEST_PAUSE_S))
        return failures[-1] if failures else "no Triton is named"


def running_of(experiment: Experiment, served: Mapping[Wanted, ChallengerModel]) -> RunningCanary:
    """An experiment as batches are divided by it."""
    d = experiment.definition
    return RunningCanary(
        experiment.arms,
        (d.champion.model, str(d.champion.version)),
        tuple(Arm(one.arm, one.model, str(one.version)) for one in d.challengers),
        tuple(served.get(one) for one in wanted_of(experiment)),
    )


def wanted_of(experiment: Experiment) -> list[Wanted]:
    """Its challengers, in their order."""
    d = experiment.definition
    return [Wanted(d.name, one.model, one.version) for one in d.challengers]


def still_served(model: GuardedChallenger) -> bool:
    """Whether it answers to its name still; of a server that is away another may have it."""
    try:
        return model.inner.is_served()
    except ServiceUnavailable:
        return False


def not_of_the_gateway(name: str) -> str:
    """Why a model is none that a gateway asks; "" where it is: another's answers have other names and shapes."""
    try:
        outputs = contract(name).outputs
    except KeyError:
        return f"{name} is no model of a gateway"
    return "" if outputs == TRADING_DECISION.outputs else f"{name} does not answer as the gateway's models do"
