"""A gateway rehearses on the real broker before it joins, and says so meanwhile."""

from __future__ import annotations

import itertools
import signal
import threading
import time

import httpx
import numpy as np
import pytest
from structlog.testing import capture_logs

from connectors.kafka.client import Consumer
from connectors.kafka.topics import TOPICS
from connectors.kafka.watermarks import bounds
from gateway.adapters.admin import AdminServer
from gateway.adapters.kafka_scratch import DECISION, ScratchRounds
from gateway.adapters.metrics import PrometheusMetrics
from gateway.before_joining import rehearse_start
from gateway.control.control import Control
from gateway.control.redis_latch import RedisStateStore
from gateway.ports import PartitionOutbox, Stream
from gateway.rehearsal import COMPARED
from gateway.settings import GatewaySettings
from stack.processes.gateway import SeriesTopics, series_gateway
from stack.servers.kafka import create_topics
from tests.waiting import eventually
from trading.errors import PredictionError
from trading.risk.trading_state import TradingState

NUMBERS = itertools.count()


@pytest.fixture
def topics(stack):
    made = SeriesTopics(f"rehearsal-{next(NUMBERS)}", ticks="market.ticks")
    create_topics(stack, made.names)
    return made


def ends(stack, topic):
    consumer = Consumer({"bootstrap.servers": stack.kafka_bootstrap, "group.id": "x"})
    partitions = list(consumer.list_topics(topic, 10).topics[topic].partitions)
    consumer.close()
    return {p: bounds(stack.kafka_bootstrap, topic, p)[1] for p in partitions}


class SlowModel:
    """A model that takes its time."""

    model_name = "slow"

    def __init__(self):
        self.rows = []

    def predict(self, features, timeout_s):
        assert features.dtype == np.float32
        self.rows.append(len(features))
        time.sleep(0.1)

    def close(self):
        pass


@pytest.mark.parametrize("exactly_once", [True, False])
def test_a_round_goes_over_the_scratch_topic_and_nowhere_else(stack, topics, exactly_once):
    others = [name for role, name in topics.topics.by_role().items() if role != "scratch"]
    before = {name: ends(stack, name) for name in others}
    asked = []
    rounds = ScratchRounds(
        stack.kafka_bootstrap, topics.topics, topics.series, "a", exactly_once=exactly_once, predict=asked.append
    )
    for rows in (1, 8, 128):
        rounds.play(rows)
    rounds.close()
    assert asked == [1, 8, 128]
    scratch = ends(stack, topics.topics.scratch)
    # Ticks and decisions; a transaction's end is an offset too.
    assert scratch == {0: 2 * 137 + (3 if exactly_once else 0)}
    assert {name: ends(stack, name) for name in others} == before


def test_a_rehearsal_that_another_gateway_left_open_stops_nobody(stack, topics):
    killed = ScratchRounds(stack.kafka_bootstrap, topics.topics, topics.series, "a", exactly_once=True, predict=len)
    producer = killed._sink._producers[0]
    producer.begin_transaction()
    producer.produce(topics.topics.scratch, b"open", b"a", 0)
    assert producer.flush(10) == 0
    other = ScratchRounds(
        stack.kafka_bootstrap, topics.topics, topics.series, "b", exactly_once=True, predict=lambda _: None
    )
    other.play(8)
    other.close()
    producer.abort_transaction(10)
    killed.close()


def test_while_it_warms_up_a_gateway_is_well_not_ready_and_can_stop_the_desk(stack, topics):
    settings = GatewaySettings(
        kafka_bootstrap=stack.kafka_bootstrap,
        redis_url=stack.redis_url,
        **topics.settings(),
        longest_rehearsal_s=30,
    )
    stored = RedisStateStore(stack.redis_url)
    control = Control(stack.kafka_bootstrap, topics.topics.control, stack.redis_url)
    admin, metrics, model = AdminServer("127.0.0.1", 0, "secret"), PrometheusMetrics(), SlowModel()
    going = threading.Thread(
        target=rehearse_start, args=(settings, "a", "slow/1", model, control, stored, metrics, admin), daemon=True
    )
    going.start()
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{admin.port}") as http:

            def answers(path):
                try:
                    return http.get(path)
                except httpx.ConnectError:
                    return None

            ready = eventually(lambda: answers("/readyz"), 20)
            assert ready.status_code == 503
            assert ready.json()["problems"][0].startswith("warming up: ")
            assert http.get("/healthz").status_code == 200
            status = http.get("/status").json()
            assert (status["ready"], status["partitions"], status["model"]) == (False, [], "slow/1")
            header = {"Authorization": "Bearer secret"}
            later = http.post("/commands/drain", json={"reason": "x"}, headers=header)
            assert later.status_code == 503
            assert "drain is not taken yet (warming up" in later.json()["detail"]
            assert http.post("/commands/drain", json={}, headers=header).status_code == 422
            halted = http.post("/commands/halt", json={"reason": "x"}, headers=header)
            assert halted.status_code == 200
            assert "latched" in halted.json()["done"]
            assert control.effective().state == "halted"
        going.join(30)
        assert not going.is_alive()
        # They got no quicker.
        assert len(model.rows) == 2 * COMPARED
    finally:
        control.latch(TradingState.ACTIVE, "the test is over", "test")
        admin.close()
        stored.close()


def test_what_an_earlier_rehearsal_committed_is_not_taken_for_a_later_ones(stack, topics):
    def another():
        return ScratchRounds(
            stack.kafka_bootstrap, topics.topics, topics.series, "a", exactly_once=True, predict=lambda _: None
        )

    first = another()
    first.play(128)
    first.close()
    again = another()
    alike = {0: PartitionOutbox([(Stream.DECISIONS, again._key, DECISION)], 1)}
    since = again._sink._since(alike)
    assert not again._sink._is_committed(alike, since)
    again.play(8)
    assert again._sink._is_committed(alike, since)
    again.close()


class NoModel(SlowModel):
    def predict(self, features, timeout_s):
        raise PredictionError("it is being loaded")


@pytest.mark.parametrize(
    ("scratch", "model", "why"),
    [
        ("nowhere.scratch", SlowModel(), "nowhere.scratch"),
        ("gateway.scratch", NoModel(), "it is being loaded"),
    ],
)
def test_a_start_that_cannot_be_rehearsed_goes_on(stack, topics, scratch, model, why):
    settings = GatewaySettings(
        kafka_bootstrap=stack.kafka_bootstrap,
        redis_url=stack.redis_url,
        **topics.settings() | {"scratch_topic": scratch},
    )
    admin, stored = AdminServer("127.0.0.1", 0, ""), RedisStateStore(stack.redis_url)
    control = Control(stack.kafka_bootstrap, topics.topics.control, stack.redis_url)
    try:
        with capture_logs() as told:
            rehearse_start(settings, "a", "m/1", model, control, stored, PrometheusMetrics(), admin)
    finally:
        admin.close()
        stored.close()
    (said,) = [line for line in told if "rehearsed" in line["event"]]
    assert (said["event"], said["log_level"]) == ("not rehearsed", "warning")
    assert why in said["reason"]


def test_the_desk_has_the_topic(stack):
    assert ends(stack, TOPICS.scratch).keys() == {0}


def test_a_gateway_that_is_told_to_stop_while_it_starts_ends_at_once(stack, topics):
    process = series_gateway(stack, topics, "a", triton_url="127.0.0.1:1")
    process.start()
    try:
        eventually(lambda: "waiting for Triton" in process.log.read_text(), 30)
        process.signal(signal.SIGTERM)
        eventually(lambda: process.ended() is not None, 15)
        assert process.ended() == 0
    finally:
        process.kill()
    said = process.log.read_text()
    assert "stopped while starting" in said
    assert "Traceback" not in said
