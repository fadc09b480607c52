"""What must answer, be proven and be warm before the group is joined: from then on ticks wait for this gateway."""

from __future__ import annotations

import importlib.metadata
import platform
import threading
import time
from collections.abc import Callable
from contextlib import closing

import numpy as np
import structlog
from msgspec.structs import asdict

from connectors.kafka.cluster import Cluster
from gateway.adapters.admin import AdminPort, AdminServer
from gateway.adapters.clock import SystemClock
from gateway.adapters.kafka_scratch import ROUND_S, ScratchRounds
from gateway.adapters.kafka_starts import Starts
from gateway.adapters.metrics import PrometheusMetrics
from gateway.adapters.torchserve import TorchServePredictor
from gateway.adapters.triton import TritonPredictor
from gateway.adapters.triton_lineup import Server
from gateway.adapters.tritons import Tritons, first_of
from gateway.control.control import Control
from gateway.operations import WarmingUp
from gateway.ports import Predictor, StateStore
from gateway.rehearsal import rehearse
from gateway.settings import GatewaySettings
from trading.errors import ConfigurationError, PredictionError, ServiceUnavailable
from trading.features.kernel import N_FEATURES
from trading.models.serving import GatewayStart, ServingFacts
from trading.portfolio.book import Book
from trading.risk.limits import LimitSet
from trading.risk.self_test import prove_all

#: How long a server that does not answer yet is waited for at the start.
START_PATIENCE_S = 30.0
#: What decides, beside the model.
PACKAGES = ("ultrathink-pilot", "numpy", "numba")
#: A rehearsal that takes longer is told of over HTTP.
QUIET_S = 1.0
log = structlog.get_logger()


def wait_for_server(settings: GatewaySettings, instance: str) -> Server:
    """Connect and check; a server that is being restarted is waited for, a wrong model is not."""
    deadline = time.monotonic() + START_PATIENCE_S
    while True:
        try:
            return connect(settings, instance)
        except ServiceUnavailable as error:
            if time.monotonic() > deadline:
                raise
            event = "waiting for TorchServe" if settings.server == "torchserve" else "waiting for Triton"
            log.info(event, reason=str(error)[:200])
            time.sleep(1.0)


def connect(settings: GatewaySettings, instance: str) -> Server:
    """The server that is meant, or several. Raises ServiceUnavailable, ContractMismatch."""
    addresses, model = settings.tritons, (settings.model_name, settings.model_version)
    if settings.server == "torchserve":
        log.warning("TorchServe is archived upstream, and gets no security fixes")
        return TorchServePredictor(settings.torchserve_url, settings.torchserve_token_file, *model)
    if len(addresses) > 1:
        return Tritons(addresses, *model, first_of(instance))
    return TritonPredictor(addresses[0], *model)


def first_word(
    settings: GatewaySettings, instance: str, cluster: Cluster, predictor: Server
) -> Callable[[str, ServingFacts], None]:
    """Put on record which version is asked, and what its decisions depend on; returns what tells of the next.

    Raises:
        ServiceUnavailable: the model was not tried yet, or the log does not take it.
    """
    serving, topics = predictor.serving, settings.topics
    if serving is None:
        raise ServiceUnavailable(f"{predictor.model_name} was not tried yet")
    build = {name: importlib.metadata.version(name) for name in PACKAGES}
    start = GatewayStart(
        event="start", instance=instance, group=settings.group, at_ns=0, model_name=predictor.model_name,
        model_version=predictor.model_version, serving=serving, account=settings.account,
        strategy=settings.strategy, rebalance_band=settings.rebalance_band, execution=settings.execution,
        ticks_topic=topics.ticks, ticks_topic_id=cluster.ticks_id, decisions_topic=topics.decisions,
        decisions_topic_id=cluster.decisions_id, partitions=cluster.partitions,
        build={**build, "python": platform.python_version()},
    )  # fmt: skip
    starts = Starts(settings.kafka_bootstrap, topics.starts, start)
    starts.tell(start.model_version, serving)
    return starts.tell_of_next


def self_test(limits: LimitSet) -> None:
    """Every limit that is set can deny, and does not deny everything; else no gateway.

    Raises:
        ConfigurationError: with each limit that is not proven.
    """
    began = time.monotonic()
    proofs = prove_all(limits, Book)
    problems = [f"  {p.rule} ({p.scope}): {p.problem}" for p in proofs if p.problem]
    if problems:
        raise ConfigurationError(
            "limits are not proven; see `ultrathink risk selftest`, and set others with "
            "`ultrathink risk limits apply`:\n" + "\n".join(problems)
        )
    log.info("limits proven", rules=sum(p.on for p in proofs), seconds=round(time.monotonic() - began, 3))


def rehearse_start(
    settings: GatewaySettings,
    instance: str,
    model: str,
    predictor: Predictor,
    control: Control,
    states: StateStore,
    metrics: PrometheusMetrics,
    admin: AdminServer,
) -> None:
    """The path over the servers, until it is quick: before the group is joined, for its ticks wait for nobody.

    Where a server does not answer it is left out, and this is logged: what follows needs the same servers.
    """
    if not settings.longest_rehearsal_s:
        return
    began = time.monotonic()
    status = {
        "instance": instance, "group": settings.group, "delivery": settings.delivery, "model": model,
    }  # fmt: skip
    warming = WarmingUp(status, states, control)
    port = AdminPort(warming.health, warming.readiness, warming.status, warming.command, metrics.registry)
    telling = threading.Timer(QUIET_S, admin.serve, [port])
    telling.start()
    try:
        rounds = ScratchRounds(
            settings.kafka_bootstrap, settings.topics, settings.group, instance,
            exactly_once=settings.delivery == "exactly-once",
            predict=lambda rows: predictor.predict(np.zeros((rows, N_FEATURES), np.float32), ROUND_S),
        )  # fmt: skip
        connected_s = time.monotonic() - began
        with closing(rounds):
            done = rehearse(
                rounds.play,
                SystemClock(),
                settings.longest_rehearsal_s - connected_s,
                settings.budget_ms / 1e3,
                warming.say,
            )
    except (ServiceUnavailable, PredictionError) as error:
        log.warning("not rehearsed", reason=str(error)[:300], seconds=round(time.monotonic() - began, 3))
    else:
        log.info("rehearsed", connected_s=round(connected_s, 3), **asdict(done))
    finally:
        # Told late, it would speak for a gateway that has begun.
        telling.cancel()
        telling.join()
