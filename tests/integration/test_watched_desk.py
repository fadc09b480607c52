"""A real Prometheus and a real Alertmanager on a real desk: all is seen, nothing alarms, and what is wrong does."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from contextlib import contextmanager
from datetime import datetime

import httpx
import pytest

from connectors.kafka.client import Producer
from exporters.repository.state import journal_path
from gateway.control.control import Control
from loadtest.open_loop.publisher import TickPublisher
from loadtest.open_loop.schedule import Speed, plan
from stack.servers import prometheus
from stack.servers.settings import ServerPorts, StackSettings
from stack.supervision.lifecycle import restart, up
from stack.supervision.status import READY, read_status
from stack.watching import alerts
from stack.watching.boards import BOARDS
from tests.stacks import running_stack
from tests.waiting import eventually
from tests.webhooks import receiving
from trading.history import open_source
from trading.risk.trading_state import TradingState

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        prometheus.program() is None or prometheus.alertmanager_program() is None,
        reason="no Prometheus and Alertmanager here (Debian: prometheus prometheus-alertmanager)",
    ),
]
HEALTHY_S = float(os.environ.get("ULTRATHINK_HEALTHY_S", "30"))
SEEN_S = 5.0


@pytest.fixture(scope="module")
def told():
    with receiving() as found:
        yield found


@pytest.fixture(scope="module")
def desk(stack, exported, told, tmp_path_factory):
    """A desk that decides, watched; its alerts are told to `told`."""
    home = tmp_path_factory.mktemp("watched")
    settings = StackSettings(
        home=home, ports=ServerPorts.automatic(), model_repository=home / "models", alert_webhook=told.address
    )
    shutil.copytree(stack.model_repository, settings.model_repository)
    journal = journal_path(settings.model_repository)
    journal.parent.mkdir(parents=True)
    shutil.copy(journal_path(stack.model_repository), journal)
    with running_stack(settings):
        yield settings


@contextmanager
def load(settings, per_s=500.0):
    """Ticks, as long as this lasts."""
    ending = threading.Event()

    def send():
        source = open_source("simulate:regimes?seed=9&ticks=2000000&symbols=3")
        publisher = TickPublisher(settings.kafka_bootstrap, "market.ticks")
        records = source.records()
        while not ending.is_set():
            some = [next(records) for _ in range(int(per_s))]
            publisher.publish(plan(iter(some), Speed("constant", rate_hz=per_s)))

    sending = threading.Thread(target=send, daemon=True)
    sending.start()
    try:
        yield
    finally:
        ending.set()
        sending.join(10)


def ask(settings, expression):
    found = httpx.get(
        f"http://127.0.0.1:{settings.ports.prometheus}/api/v1/query", params={"query": expression}, timeout=10
    ).json()
    assert found["status"] == "success", found
    return found["data"]["result"]


def firing(settings):
    return {one["metric"]["alertname"] for one in ask(settings, 'ALERTS{alertstate="firing"}')}


def test_every_job_is_scraped_and_every_metric_that_an_alert_reads_is_there(desk):
    assert eventually(
        lambda: {one["metric"]["job"] for one in ask(desk, "up == 1")} == set(prometheus.targets(desk))
    )
    # What only a GPU, three brokers, or something broken would tell.
    absent = {"DCGM_FI_DEV_FB_USED", "DCGM_FI_DEV_FB_FREE", "DCGM_FI_DEV_GPU_TEMP"}
    with load(desk, 100.0):
        names = {name for one in alerts.ALERTS for name in metrics_of(one.expr)} - absent
        missing = names

        def seen():
            nonlocal missing
            missing = {name for name in missing if not ask(desk, name)}
            return not missing

        try:
            eventually(seen, 60)
        except AssertionError:
            pytest.fail(f"nobody tells of {sorted(missing)}")


def metrics_of(expression):
    """Names of metrics: by Prometheus' own parser one would have to ask it; ours all have one of these beginnings."""
    import re

    begin = "gateway_|kafka_|ultrathink_|metrics_|redis_|pg_|nv_|node_|forensics_|DCGM_|up"
    return set(re.findall(rf"\b((?:{begin})\w*)\b(?=[{{\[ )]|$)", expression))


def test_a_healthy_desk_alarms_nobody(desk, told):
    with load(desk):
        # The first moments are warming up: the machine's own models are loaded, and compiled.
        time.sleep(20)
        before = len(told.came)
        deadline = time.monotonic() + HEALTHY_S
        found = set()
        while time.monotonic() < deadline:
            found |= firing(desk)
            time.sleep(2)
    assert found == set()
    assert told.names() == set() or len(told.came) == before


def test_every_query_of_every_panel_answers_with_data(desk):
    """On a desk that decides, and is asked for its data."""
    token = desk.secret("data-token")
    queries = {
        query.expr.replace("$__rate_interval", "30s"): f"{board.title}: {panel.title}"
        for board in BOARDS
        for panel in board.panels
        for query in panel.queries
        if not panel.needs
    }
    assert len(queries) > 50
    with load(desk, 200.0):
        missing = set(queries)

        def answered():
            httpx.get(
                f"http://127.0.0.1:{desk.ports.data}/v1/symbols",
                headers={"Authorization": f"Bearer {token}"},
                timeout=5,
            )
            missing.difference_update({expr for expr in missing if has_data(ask(desk, expr))})
            return not missing

        try:
            eventually(answered, 60)
        except AssertionError:
            pytest.fail(f"no data: {[(queries[expr], expr) for expr in missing]}")


def has_data(found):
    """Whether an answer has a number in it."""
    return any(one["value"][1] not in {"NaN", "+Inf", "-Inf"} for one in found)


@contextmanager
def control(settings):
    made = Control(settings.kafka_bootstrap, "gateway.control", settings.redis_url)
    try:
        yield made
    finally:
        made.latch(TradingState.ACTIVE, "the test is over", "test")


def fires_and_clears(desk, told, name, break_it, mend_it, seconds=60.0):
    """Break something; its alert fires and is told within seconds of the rule's; it clears when that is mended."""
    break_it()
    eventually(lambda: name in firing(desk), seconds)
    eventually(lambda: told.first(name), 60)
    at, one = told.first(name)
    # Critical ones are told at once, others are gathered for ten seconds.
    began = datetime.fromisoformat(one["startsAt"]).timestamp()
    late = at - began
    assert one["annotations"]["runbook"] == f"docs/runbook/{name}.md"
    mend_it()
    eventually(lambda: name not in firing(desk), 120)
    return late


def test_the_kill_switch_is_told_within_seconds(desk, told):
    with control(desk) as made:
        late = fires_and_clears(
            desk, told, "KillSwitch",
            lambda: made.latch(TradingState.KILLED, "a drill", "test"),
            lambda: made.latch(TradingState.ACTIVE, "over", "test"),
        )  # fmt: skip
    assert late < SEEN_S


def test_messages_that_are_no_ticks_are_told(desk, told):
    producer = Producer({"bootstrap.servers": desk.kafka_bootstrap})

    def rubbish():
        producer.produce("market.ticks", b"rubbish", key=b"X")
        assert producer.flush(10) == 0

    rubbish()
    time.sleep(6)
    rubbish()
    assert eventually(lambda: "DeadLetters" in firing(desk), 60)
    assert eventually(lambda: told.first("DeadLetters"), 60)


def test_a_model_server_that_hangs_opens_the_breaker_and_is_told(desk, told):
    pid = next(s for s in read_status(desk.absolute_home).services if s.name == "triton").process.pid
    with load(desk, 100.0):
        assert fires_and_clears(
            desk, told, "BreakerOpen",
            lambda: os.kill(pid, signal.SIGSTOP), lambda: os.kill(pid, signal.SIGCONT),
        ) >= 0  # fmt: skip


def test_a_supervisor_that_is_gone_is_told_and_taken_over(desk, told):
    def end():
        os.kill(read_status(desk.absolute_home).supervisor.pid, signal.SIGKILL)

    late = fires_and_clears(desk, told, "SupervisorDown", end, lambda: up(desk, lambda _: None))
    assert late < SEEN_S


def test_a_process_that_ends_again_and_again_is_told(desk, told):
    def end():
        for _ in range(5):
            restart(desk.absolute_home, "paper-broker", "a drill")
            eventually(
                lambda: next(
                    s for s in read_status(desk.absolute_home).services if s.name == "paper-broker"
                ).state == READY
            )  # fmt: skip

    end()
    assert eventually(lambda: "RestartLoop" in firing(desk), 60)
    assert eventually(lambda: told.first("RestartLoop"), 30)
