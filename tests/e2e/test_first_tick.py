"""Nothing of the live path is compiled once a gateway is ready, whatever a desk then goes through."""

from __future__ import annotations

import time

import httpx
import pytest

from connectors.kafka.client import Producer
from gateway.control.control import Control
from loadtest.open_loop.publisher import TickPublisher
from loadtest.open_loop.schedule import Speed, plan
from stack.chaos.feed import wait_until_decided
from stack.processes.broker import running_broker
from stack.processes.gateway import GatewayProcess
from tests.waiting import eventually
from trading.history import open_source
from trading.risk.limits import LimitsFile
from trading.risk.trading_state import TradingState

#: Everything is compiled before it is ready.
FIRST_START_S = 300.0
GIVEN = {"execution": "broker", "snapshot_s": 0.5, "durable_snapshot_s": 1.0}


def trade(stack, seed):
    """Ticks and rubbish, decided; returns when all are."""
    producer = Producer({"bootstrap.servers": stack.kafka_bootstrap})
    for partition in range(stack.partitions):
        producer.produce("market.ticks", b"rubbish", b"K", partition=partition)
    assert producer.flush(10) == 0
    publisher = TickPublisher(stack.kafka_bootstrap, "market.ticks")
    market = open_source(f"simulate:regimes?seed={seed}&ticks=1500&symbols=24")
    published = publisher.publish(plan(market.records(), Speed.parse("600/s")))
    ends = {}
    for partition, offset in published.intended_ns:
        ends[partition] = max(ends.get(partition, 0), offset + 1)
    assert wait_until_decided(stack, "gateway", "market.ticks", ends, 30.0)


def ready(running, url, cache):
    """When it was ready, by what lies in the cache."""
    running.wait_for_partitions(timeout_s=FIRST_START_S)
    eventually(lambda: httpx.get(url).status_code == 200)
    return time.time_ns(), set(cache.rglob("*.nb?"))


def nothing_compiled(running, since_ns, before, cache):
    """By its own count, and by what it has kept."""
    found = running.scrape()
    assert found.value("gateway_late_compilations_total") == 0
    after = set(cache.rglob("*.nb?"))
    assert after == before
    assert all(path.stat().st_mtime_ns < since_ns for path in after)
    return found


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("exported")
def test_a_desk_that_began_with_nothing_compiled_compiles_nothing_after_it_is_ready(stack, tmp_path):
    control = Control(stack.kafka_bootstrap, "gateway.control", stack.redis_url)
    url = f"http://127.0.0.1:{stack.ports.gateway_metrics}/readyz"
    running = GatewayProcess(stack, environment={"NUMBA_CACHE_DIR": str(tmp_path)}, **GIVEN)
    with running_broker(stack, reject_share=0.2, latency_ms=5):
        running.start()
        try:
            since_ns, before = ready(running, url, tmp_path)
            assert len(before) >= 20
            trade(stack, seed=1)
            _, held = control.limits()
            control.apply(
                LimitsFile(defaults={**held.defaults, "max_order_notional": 40_000}), "other limits", "test"
            )
            for what in ("drawdown", "daily_loss", "repeated_execution", "cooldown", "clock_offset"):
                control.command("reset", what, "drill", "test")
            trade(stack, seed=2)
            control.latch(TradingState.HALTED, "drill", "test")
            trade(stack, seed=3)
            control.latch(TradingState.ACTIVE, "drill over", "test")
            control.apply(held, "as before", "test")
            trade(stack, seed=4)
            found = nothing_compiled(running, since_ns, before, tmp_path)
            assert found.value("gateway_ticks_total") >= 4 * 1500
            # Rebuilt from a snapshot and from the log behind it.
            running.kill()
            running.start()
            since_ns, again = ready(running, url, tmp_path)
            assert again == before
            trade(stack, seed=5)
            nothing_compiled(running, since_ns, before, tmp_path)
            running.drain()
        finally:
            running.kill()
