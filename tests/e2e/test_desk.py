"""Limits, kill switch, broker and reservations on the real servers."""

from __future__ import annotations

import json
import math
import signal
import threading
import time
from collections import Counter

import httpx
import pytest
import redis
from typer.testing import CliRunner

from connectors.kafka.cluster import check_cluster
from connectors.kafka.reading import read_to_end
from connectors.kafka.topics import Topics
from connectors.kafka.watermarks import Watermarks
from gateway.adapters.clock import SystemClock
from gateway.adapters.kafka_fills import reports_between
from gateway.adapters.kafka_recovery import KafkaPartitionLog, LogPlace
from gateway.adapters.redis_reservations import KEY, RedisReservations
from gateway.adapters.redis_snapshots import RedisSnapshots
from gateway.control.control import Control
from gateway.control.topic import ControlListener
from gateway.recovery import PartitionRecovery
from gateway.settings import GatewaySettings
from loadtest.open_loop.publisher import TickPublisher
from loadtest.open_loop.schedule import Speed, plan
from loadtest.open_loop.watcher import DecisionWatcher
from stack.cli.main import app
from stack.processes.broker import running_broker
from stack.processes.gateway import running_gateway
from tests.waiting import eventually
from trading.decision.wire import decode_decision
from trading.history import open_source
from trading.risk.limits import LimitsFile
from trading.risk.trading_state import TradingState
from trading.state.log import log_name

CLI = CliRunner()
TICKS = "market.ticks"


def publish(stack, ticks, seed, rate=1500.0):
    """Ticks of a market of their own time; returns what was sent."""
    source = open_source(f"simulate:regimes?seed={seed}&ticks={ticks}&symbols=3")
    return TickPublisher(stack.kafka_bootstrap, TICKS).publish(
        plan(source.records(), Speed("constant", rate_hz=rate))
    )


def decide(stack, watcher, ticks, seed):
    before = len(watcher.payloads)
    published = publish(stack, ticks, seed)
    watcher.wait_for(published.intended_ns, 20.0, lambda _: None)
    return watcher.decisions()[before:]


@pytest.fixture
def ageless(stack):
    """Each simulated market has a time of its own: what one test sends is old to the next."""
    control = Control(stack.kafka_bootstrap, "gateway.control", stack.redis_url)
    limits = {"max_staleness_s": None, "max_drawdown": None}
    control.apply(LimitsFile(defaults=limits), "several markets", "test")
    yield control
    control.apply(LimitsFile(), "test over", "test")


@pytest.fixture
def watcher(stack):
    found = DecisionWatcher(stack.kafka_bootstrap, "trading.decisions")
    yield found
    found.close()


#: No deadline: these tests are about what is decided, not how fast.
PATIENT = {"budget_ms": "86400000", "reserve_ms": "0", "shed_below_ms": "0"}


@pytest.mark.usefixtures("exported")
def test_limits_are_reloaded_whole_or_not_at_all_and_a_restart_finds_them(stack, watcher, tmp_path):
    tight, wrong = tmp_path / "tight.yaml", tmp_path / "wrong.yaml"
    tight.write_text("defaults: {max_order_notional: 7000, max_staleness_s: null, max_drawdown: null}")
    wrong.write_text("defaults:\n  max_order_notional: -1\n  max_leverag: 2\n")
    with running_gateway(stack, **PATIENT):
        first = decide(stack, watcher, 600, 21)
        refused = CLI.invoke(app, ["risk", "limits", "apply", str(wrong), "--reason", "x"])
        assert "line 2" in str(refused.exception)
        assert "line 3" in str(refused.exception)
        assert decide(stack, watcher, 30, 22)[-1].limits_version == first[-1].limits_version
        done = CLI.invoke(app, ["risk", "limits", "apply", str(tight), "--reason", "try small orders"])
        assert done.exit_code == 0, done.exception
        time.sleep(0.5)  # a batch that is being decided keeps its limits
        second = decide(stack, watcher, 600, 23)
        assert {d.limits_version for d in second} != {first[-1].limits_version}
        assert len({d.limits_version for d in second}) == 1
        assert second[0].control_to > first[-1].control_to
        traded = [d for d in second if d.quantity]
        assert traded
        assert all(abs(d.quantity) * d.reference_price <= 7_000 * (1 + 1e-9) for d in traded)
    history = json.loads(CLI.invoke(app, ["risk", "limits", "history", "--json"]).output)
    assert [c["reason"] for c in history if c["kind"] == "limits"][-1] == "try small orders"
    shown = json.loads(CLI.invoke(app, ["risk", "limits", "show", "--json"]).output)
    assert shown["file"]["defaults"]["max_order_notional"] == 7000
    with running_gateway(stack, **PATIENT):
        again = decide(stack, watcher, 60, 24)
        assert {d.limits_version for d in again} == {second[0].limits_version}
        told = CLI.invoke(app, ["risk", "explain", traded[0].decision_id])
        assert "order_notional" in told.output
        assert traded[0].decision_id in told.output
        loose = tmp_path / "loose.yaml"
        loose.write_text("")
        assert CLI.invoke(app, ["risk", "limits", "apply", str(loose), "--reason", "test over"]).exit_code == 0
        for what in ("drawdown", "clock_offset"):
            assert CLI.invoke(app, ["risk", "reset", what, "--reason", "test"]).exit_code == 0
        assert CLI.invoke(app, ["risk", "reset", "nonsense", "--reason", "test"]).exception
    plot = tmp_path / "plot.png"
    simulated = CLI.invoke(
        app, ["risk", "simulate", "decisions", "--limits", str(tight), "--plot", str(plot), "--json"]
    )
    assert json.loads(simulated.output)["ticks"] >= 1290
    assert plot.is_file()


@pytest.mark.usefixtures("exported", "ageless")
@pytest.mark.parametrize(
    "way", ["topic", pytest.param("admin", marks=pytest.mark.slow), pytest.param("file", marks=pytest.mark.slow)]
)
def test_the_kill_switch_ends_all_orders_until_a_human_resumes(stack, watcher, tmp_path, way):
    control, file = Control(stack.kafka_bootstrap, "gateway.control", stack.redis_url), tmp_path / "kill"
    url = f"http://127.0.0.1:{stack.ports.gateway_metrics}"
    with running_gateway(stack, kill_file=str(file), **PATIENT):
        eventually(lambda: httpx.get(f"{url}/readyz").status_code == 200)
        # Made by the first gateway of a stack.
        header = {"Authorization": f"Bearer {stack.secret('gateway-admin')}"}
        publish(stack, 1200, 31, 600.0)
        # However slow the machine, the kill must find a desk that trades.
        eventually(lambda: any(d.quantity for d in watcher.decisions()), 60.0)
        feed = threading.Thread(target=publish, args=(stack, 1300, 32, 600.0))
        feed.start()
        try:
            if way == "topic":
                assert CLI.invoke(app, ["gateway", "kill", "--reason", "drill"]).exit_code == 0
            elif way == "admin":
                httpx.post(
                    f"{url}/commands/kill", headers=header, json={"reason": "drill"}, timeout=20
                ).raise_for_status()
                reset = {"what": "drawdown", "reason": "drill"}
                httpx.post(f"{url}/commands/reset", headers=header, json=reset, timeout=20).raise_for_status()
                assert httpx.post(f"{url}/commands/reset", headers=header, json={"what": "x"}).status_code == 422
            else:
                file.touch()
            feed.join()
            eventually(lambda: len(watcher.payloads) >= 2500)
        finally:
            feed.join()
            file.unlink(missing_ok=True)
            if way == "file":
                eventually(lambda: control.effective().state is TradingState.KILLED)
            status = httpx.get(f"{url}/status").json()
            assert status["trading_state"] == "killed"
            assert set(status["books"]) <= {"0", "1", "2", "3"}
            assert all(book["equity"] > 0 for book in status["books"].values())
            assert "gateway_book_equity{" in httpx.get(f"{url}/metrics").text
            lesser = CLI.invoke(app, ["gateway", "reduce", "--reason", "end of session"])
            assert lesser.exit_code == 0, lesser.exception
            assert control.effective().state is TradingState.KILLED
            control.latch(TradingState.ACTIVE, "drill over", "test")
            eventually(lambda: httpx.get(f"{url}/status").json()["trading_state"] == "active")
    by_partition = {}
    for d in watcher.decisions():
        by_partition.setdefault(d.decision_id.rsplit("-", 2)[1], []).append(d)
    killed = 0
    for mine in by_partition.values():
        first = next((k for k, d in enumerate(mine) if d.trading_state is TradingState.KILLED), len(mine))
        killed += len(mine) - first
        assert all(d.trading_state is TradingState.KILLED and d.quantity == 0.0 for d in mine[first:])
        wanted = [d for d in mine[first:] if d.verdict is not None]
        assert all("kill_switch" in d.verdict.broken for d in wanted)
    assert killed > 100
    assert any(d.quantity for mine in by_partition.values() for d in mine)


@pytest.mark.slow
@pytest.mark.usefixtures("exported", "ageless")
def test_a_book_of_fills_is_rebuilt_exactly_and_a_kill_loses_and_repeats_nothing(stack, watcher):
    with running_broker(stack):
        with (
            pytest.raises(Exception, match="137"),
            running_gateway(stack, execution="broker", **PATIENT) as gateway,
        ):
            publish(stack, 1500, 41)
            gateway.signal(signal.SIGKILL)
        with running_gateway(stack, execution="broker", **PATIENT):
            decide(stack, watcher, 1500, 42)
            eventually(lambda: len(watcher.payloads) >= 3000)
            time.sleep(1.5)  # a snapshot, and the last fills
            decide(stack, watcher, 30, 43)
    decisions = watcher.decisions()
    assert len({d.decision_id for d in decisions}) == len(decisions) == 3030
    assert sum(d.quantity != 0.0 for d in decisions) > 50
    settings = GatewaySettings(kafka_bootstrap=stack.kafka_bootstrap)
    base = settings.limit_set(stack.partitions)
    listener = ControlListener(stack.kafka_bootstrap, "gateway.control", base)
    topics = Topics()
    cluster = check_cluster(stack.kafka_bootstrap, topics)
    fast = RedisSnapshots(stack.redis_url, "gateway")
    watermarks = Watermarks(stack.kafka_bootstrap, "gateway")

    class FromTheBeginning(KafkaPartitionLog):
        def snapshots(self):
            return iter(())

    place = LogPlace(
        stack.kafka_bootstrap,
        cluster.id,
        "gateway",
        topics,
        log_name(cluster.id, cluster.ticks_id, cluster.decisions_id, "gateway"),
    )

    def restore(log, measured):
        recovery = PartitionRecovery(
            lambda _: log, settings.admission(), base, SystemClock(), settings.decisions_topic, measured
        )
        return recovery.restore(log.partition)

    symbols, read = 0, {"quick": 0, "slow": 0}

    def count(name):
        def measured(ticks, *_):
            read[name] += ticks

        return measured

    try:
        for partition in range(stack.partitions):
            quick = restore(KafkaPartitionLog(place, partition, fast, listener, watermarks), count("quick"))
            slow = restore(FromTheBeginning(place, partition, fast, listener, watermarks), count("slow"))
            assert quick.next_offset == slow.next_offset
            # What lived and was kept in snapshots, and what the log alone says, to the last bit.
            assert quick.state.book.dump() == slow.state.book.dump()
            assert (quick.state.fills_to, quick.state.control_to) == (slow.state.fills_to, slow.state.control_to)
            reports = reports_between(stack.kafka_bootstrap, topics, partition, 0, quick.state.fills_to)
            symbols += partition_is_what_happened(
                stack, topics, partition, slow.state.book, [r for _, r in reports]
            )
    finally:
        listener.close()
        fast.close()
        watermarks.close()
    assert symbols >= 3
    assert read["quick"] < 0.5 * read["slow"]


def partition_is_what_happened(stack, topics, partition, book, reports):
    """Positions are the orders that counted as filled, by other tests, and the broker's fills, each once."""
    positions = Counter()
    for messages in read_to_end(stack.kafka_bootstrap, topics.decisions, partition, 0):
        for message in messages:
            decision = decode_decision(message.value())
            if decision.fills_to < 0:
                positions[decision.symbol] += decision.quantity
    for report in {(r.order_id, r.sequence): r for r in reports}.values():
        positions[report.symbol] += report.quantity
    for symbol, quantity in positions.items():
        assert book.quantity(symbol) == pytest.approx(quantity, abs=1e-6)
    return len(positions)


@pytest.mark.usefixtures("exported")
def test_what_is_reserved_together_never_exceeds_the_desks_limit(stack):
    limit, desk = 1_000.0, f"test-{time.time_ns()}"
    books = [RedisReservations(stack.redis_url, desk, f"g{k}", lambda: limit, ttl_s=2.0) for k in range(3)]
    held = [[0.0, 0.0] for _ in books]
    worst, stopping = [0.0], threading.Event()

    def trade(k):
        rising = True
        while not stopping.is_set():
            for partition in (0, 1):
                quota = books[k].quota(partition, held[k][partition])
                if not math.isnan(quota):
                    held[k][partition] = (
                        min(quota, held[k][partition] + 7.0) if rising else max(0.0, held[k][partition] - 9.0)
                    )
            rising = rising if time.time() % 1 < 0.9 else not rising
            time.sleep(0.001)

    threads = [threading.Thread(target=trade, args=(k,)) for k in range(3)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 4.0
    while time.monotonic() < deadline:
        worst[0] = max(worst[0], sum(map(sum, held)))
        time.sleep(0.002)
    stopping.set()
    for thread in threads:
        thread.join()
    try:
        # They come near it together, which alone proves that it held.
        assert 0.6 * limit < worst[0] <= limit + 1e-6
        # One gateway is gone: its room beyond what it told to hold is free after a while, what it told is not.
        client = redis.Redis.from_url(stack.redis_url)
        for partition in (0, 1):
            books[0].quota(partition, held[0][partition])
        names = [f"g0:{partition}" for partition in (0, 1)]
        eventually(lambda: [float(one) for one in client.hmget(f"{KEY}:{desk}:holds", names)] == held[0], 10.0)
        books[0].close()
        gone = sum(held[0])
        held[0][:] = [0.0, 0.0]
        eventually(lambda: room(books[1:], held[1:]) > limit - gone - 3 * limit * 0.05 - 1.0, 10.0)
        assert room(books[1:], held[1:]) <= limit - gone + 1e-6
        client.close()
    finally:
        for book in books:
            book.close()


def room(books, held):
    """What two books grow to when each takes all that it gets."""
    for book, mine in zip(books, held, strict=True):
        for partition in (0, 1):
            quota = book.quota(partition, mine[partition])
            if not math.isnan(quota):
                mine[partition] = max(mine[partition], quota)
    return sum(map(sum, held))


def test_without_an_answer_from_redis_nothing_is_known():
    nowhere = RedisReservations("redis://127.0.0.1:1/0", "desk", "g", lambda: 1e6)
    try:
        assert math.isnan(nowhere.quota(0, 0.0))
        time.sleep(0.3)
        assert math.isnan(nowhere.quota(0, 0.0))
        unlimited = RedisReservations("redis://127.0.0.1:1/0", "desk", "g", lambda: None)
        assert math.isnan(unlimited.quota(0, 0.0))
        unlimited.close()
    finally:
        nowhere.close()
