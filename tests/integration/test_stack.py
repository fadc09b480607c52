"""The real servers: ready in their own protocols, supervised, and ended without a trace."""

from __future__ import annotations

import os
import signal
import time

import pytest
from confluent_kafka.admin import AdminClient, ConfigResource

from connectors.redis import connect
from gateway.adapters.triton import TritonPredictor
from gateway.control import redis_latch
from stack.servers.settings import ServerPorts, StackSettings
from stack.supervision.lifecycle import down, up
from stack.supervision.status import read_status
from trading.errors import ConfigurationError, ContractMismatch, ServiceUnavailable
from trading.risk.trading_state import TradingState


def service(settings, name):
    status = read_status(settings.absolute_home)
    assert status is not None
    return next(s for s in status.services if s.name == name)


def wait_until(condition, seconds=40):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_every_server_answers_and_tells_its_version(stack):
    # Other tests kill servers: they are back soon, and until then the status says so.
    wait_until(lambda: (found := read_status(stack.absolute_home)) is not None and found.ready)
    status = read_status(stack.absolute_home)
    assert status is not None
    assert {"kafka-1", "redis", "postgres", "mlflow", "triton"} <= {s.name for s in status.services}
    assert all(s.version not in {"", "unknown"} for s in status.services)


def test_decisions_are_kept_for_good_since_recovery_reads_them(stack):
    admin = AdminClient({"bootstrap.servers": stack.kafka_bootstrap})
    resource = ConfigResource(ConfigResource.Type.TOPIC, "trading.decisions")
    described = admin.describe_configs([resource])[resource].result(10)
    assert described["retention.ms"].value == "-1"


def test_up_twice_is_harmless(stack):
    before = read_status(stack.absolute_home)
    after = up(stack, lambda _: None)
    assert before is not None
    assert [s.process for s in after.services] == [s.process for s in before.services]


def test_models_are_registered_as_challenger_with_their_evidence(stack, trained):
    assert [m.name for m in trained.models] == ["regime_detection", "strategy_signals", "meta_controller"]
    assert trained.verdict
    assert trained.models[0].headline["agreement"] > 0.8


def test_what_is_served_answers_as_its_source(exported):
    assert [e.name for e in exported] == [
        "regime_detection",
        "strategy_signals",
        "meta_controller",
        "trading_decision",
    ]
    assert [e.format for e in exported] == ["ONNX", "TorchScript", "ONNX", "ensemble"]
    assert all(0 <= e.parity_max_abs_diff <= 1e-5 for e in exported)


def test_the_gateway_refuses_a_version_that_is_not_served(stack, exported):
    with pytest.raises(ContractMismatch, match="99"):
        TritonPredictor(stack.triton_grpc, "trading_decision", "99")


def test_the_gateway_refuses_a_server_that_is_down():
    with pytest.raises(ServiceUnavailable, match="does not answer"):
        TritonPredictor("127.0.0.1:1", "trading_decision", "")


def test_the_kill_switch_is_latched_and_reaches_a_gateway(stack):
    store = redis_latch.RedisStateStore(stack.redis_url)
    client = connect(stack.redis_url)
    try:
        assert store.trading_state() is TradingState.ACTIVE
        redis_latch.write(client, TradingState.HALTED, "test", "me")
        wait_until(lambda: store.trading_state() is TradingState.HALTED, 5)
        again = redis_latch.RedisStateStore(stack.redis_url)
        assert again.trading_state() is TradingState.HALTED
        again.close()
        client.delete(redis_latch.KEY)
        assert redis_latch.read(client).state is TradingState.HALTED
        client.set(redis_latch.KEY, b"rubbish")
        assert redis_latch.read(client).state is TradingState.HALTED
    finally:
        redis_latch.write(client, TradingState.ACTIVE, "test over", "me")
        store.close()
        client.close()


def test_a_killed_server_is_restarted_and_the_status_says_so(stack):
    # Other tests may have killed it before: the status counts them all.
    first = service(stack, "redis")
    os.kill(first.process.pid, signal.SIGKILL)
    wait_until(
        lambda: service(stack, "redis").restarts > first.restarts and service(stack, "redis").state == "ready"
    )
    found = service(stack, "redis")
    assert found.process.pid != first.process.pid
    assert "137" in found.last_exit


@pytest.mark.slow
@pytest.mark.usefixtures("exported")
@pytest.mark.parametrize("pinned", [True, False])
def test_a_triton_that_still_loads_is_no_reason_to_give_up(stack, pinned):
    before = TritonPredictor(stack.triton_grpc, "trading_decision", "")
    before.close()
    version = before.model_version if pinned else ""
    # What a gateway ends for, instead of waiting, is a ContractMismatch.
    os.kill(service(stack, "triton").process.pid, signal.SIGKILL)
    reasons, deadline = [], time.monotonic() + 60
    while True:
        try:
            TritonPredictor(stack.triton_grpc, "trading_decision", version).close()
            break
        except ServiceUnavailable as error:
            reasons.append(str(error))
            assert time.monotonic() < deadline, reasons[-1]
            time.sleep(0.02)
    assert any("not loaded" in reason for reason in reasons), reasons
    wait_until(lambda: service(stack, "triton").state == "ready")


@pytest.mark.slow
def test_three_brokers_replicate_and_down_leaves_nothing(tmp_path):
    settings = StackSettings(
        profile="servers",
        home=tmp_path / "three",
        ports=ServerPorts.automatic(),
        brokers=3,
        model_repository=tmp_path / "models",
    )
    status = up(settings, lambda _: None)
    try:
        topics = AdminClient({"bootstrap.servers": settings.kafka_bootstrap}).list_topics(timeout=10).topics
        assert all(len(p.replicas) == 3 for p in topics["market.ticks"].partitions.values())
        second = StackSettings(
            profile="servers", home=tmp_path / "other", ports=settings.ports, model_repository=tmp_path / "models"
        )
        with pytest.raises(ConfigurationError, match="is held by"):
            up(second, lambda _: None)
    finally:
        assert down(settings.absolute_home, purge=True)
    assert all(s.process is None or s.process.find() is None for s in status.services)
    assert not settings.absolute_home.exists()
