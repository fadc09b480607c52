"""The paper broker on the real Kafka: a restart keeps to what was said, and what was not said is judged now."""

from __future__ import annotations

import threading
import time

import msgspec
import pytest

from connectors.kafka.client import Producer
from connectors.kafka.reading import read_to_end
from services.paper_broker.bootstrap import build
from services.paper_broker.broker import FillModel
from services.paper_broker.broker import reports as reports_of
from services.paper_broker.settings import BrokerSettings
from stack.servers.kafka import create_topics
from trading.encoding import encode
from trading.events import CancelOrder, Command, ExecutionReport, NewOrder, ReportKind
from trading.risk.trading_state import TradingState

NAMES = {"keeps.orders": "trading.orders", "keeps.fills": "trading.fills", "keeps.control": "gateway.control"}
MODEL = FillModel(reject_share=0.0, cancel_share=0.0)


@pytest.fixture
def settings(stack):
    create_topics(stack, NAMES)
    orders, fills, control = NAMES
    return BrokerSettings(
        kafka_bootstrap=stack.kafka_bootstrap, group="keeps", orders_topic=orders, fills_topic=fills,
        control_topic=control, reject_share=0.0, cancel_share=0.0, metrics_port=0,
    )  # fmt: skip


def produce(stack, topic, *values):
    producer = Producer({"bootstrap.servers": stack.kafka_bootstrap})
    for value in values:
        producer.produce(topic, encode(value), partition=0)
    assert producer.flush(10) == 0


def reports(stack):
    found = [m.value() for some in read_to_end(stack.kafka_bootstrap, "keeps.fills", 0, 0) for m in some]
    return [msgspec.json.decode(value, type=ExecutionReport) for value in found]


def answer_until(settings, stopping):
    with build(settings) as exchange:
        exchange.run(stopping)


def run_until(settings, condition):
    """A broker, until something is so."""
    stopping = threading.Event()
    running = threading.Thread(target=answer_until, args=(settings, stopping))
    running.start()
    try:
        deadline = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.1)
    finally:
        stopping.set()
        running.join(20)


def test_a_cancel_ends_what_is_left_and_a_restart_keeps_to_what_was_said(stack, settings):
    """The predecessor was killed: of its orders it had ended one, filled a part of two, and said nothing of one."""
    now, slow = time.time_ns(), settings.model_copy(update={"latency_ms": 3_600_000.0})

    def order(number):
        return NewOrder(f"c-0-{number}", number, "A", 8.0, 100.0, 0, now, "desk", "", expires_ns=now + 60 * 10**9)

    def cancel(number):
        return CancelOrder(f"c-0-{number}", number, "A", 8.0, TradingState.HALTED, now, "desk", "")

    def fill(number, quantity, left):
        return ExecutionReport(f"c-0-{number}", number, 0, "A", ReportKind.FILL, quantity, 100.0, 0.0, left, now)

    produce(stack, "keeps.orders", *map(order, (21, 22, 23, 24)), cancel(21), cancel(22), cancel(24), cancel(99))
    produce(stack, "keeps.fills", fill(21, 8.0, 0.0), fill(22, 3.0, 5.0), fill(23, 3.0, 5.0))

    def of(number):
        return [(r.sequence, r.kind, r.quantity, r.left) for r in reports(stack) if r.number == number]

    def check():
        run_until(slow, lambda: len(of(22)) == 2 and len(of(24)) == 1)
        assert of(21) == [(0, ReportKind.FILL, 8.0, 0.0)]
        assert of(22) == [(0, ReportKind.FILL, 3.0, 5.0), (1, ReportKind.CANCEL, 0.0, 0.0)]
        assert of(24) == [(0, ReportKind.CANCEL, 0.0, 0.0)]
        # Nobody cancelled this one, and it is not due for an hour: it is left to whoever comes next.
        assert of(23) == [(0, ReportKind.FILL, 3.0, 5.0)]

    check()
    said = len(reports(stack))
    # All is committed, the cancel of an order that nobody knows too: another broker says nothing more.
    produce(stack, "keeps.orders", order(25), cancel(25))
    run_until(slow, lambda: of(25))
    check()
    assert len(reports(stack)) == said + 1


def test_a_kill_ends_what_works_though_nobody_cancels_it_and_a_restart_fills_nothing(stack, settings):
    now, slow = time.time_ns(), settings.model_copy(update={"latency_ms": 3_600_000.0})

    def order(number):
        return NewOrder(f"k-0-{number}", number, "A", 8.0, 100.0, 0, now, "desk", "", expires_ns=now + 60 * 10**9)

    def of(number):
        return [(r.sequence, r.kind, r.left, r.reason) for r in reports(stack) if r.number == number]

    produce(stack, "keeps.orders", order(31))
    killed = Command("trading_state", "killed", "drill", "test", 1)
    telling = threading.Timer(2.0, produce, (stack, "keeps.control", killed))
    telling.start()
    run_until(slow, lambda: of(31))
    telling.join()
    ended = (ReportKind.CANCEL, 0.0, "cancelled: the desk is killed")
    assert of(31) == [(0, *ended)]
    # Of a predecessor: a part is filled, the rest is long due, and the desk is killed.
    produce(stack, "keeps.orders", order(32), order(33))
    part = ExecutionReport("k-0-32", 32, 0, "A", ReportKind.FILL, 3.0, 100.0, 0.0, 5.0, now)
    produce(stack, "keeps.fills", part)
    run_until(settings.model_copy(update={"latency_ms": 0.0}), lambda: len(of(32)) == 2 and of(33))
    assert of(32)[1] == (1, *ended)
    assert of(33) == [(0, ReportKind.REJECT, 0.0, "the desk is killed")]
    produce(stack, "keeps.control", Command("trading_state", "active", "test over", "test", 2))


def test_what_was_said_is_said_again_and_what_was_not_is_judged_now(stack, settings):
    now = time.time_ns()

    def order(number, lives_s):
        return NewOrder(
            f"t-0-{number}", number, "A", 8.0, 100.0, 0, now, "desk", "", expires_ns=now + int(lives_s * 1e9)
        )

    # All of a predecessor that was killed before it committed: one taken, one rejected, one that it never saw.
    taken, rejected, unseen, fresh = order(1, -1), order(2, 60), order(3, -1), order(4, 60)
    produce(stack, "keeps.orders", taken, rejected, unseen, fresh)
    first = reports_of(taken, MODEL)[0].report
    refused = msgspec.structs.replace(first, order_id="t-0-2", number=2, kind=ReportKind.REJECT, quantity=0.0)
    produce(stack, "keeps.fills", first, refused)
    stopping = threading.Event()
    running = threading.Thread(target=answer_until, args=(settings, stopping))
    running.start()
    try:
        deadline = time.monotonic() + 30
        while not any(r.number == 4 for r in reports(stack)):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        produce(stack, "keeps.control", Command("trading_state", "killed", "drill", "test", 1))
        time.sleep(1.0)
        produce(stack, "keeps.orders", order(5, 60))
        while not any(r.number == 5 for r in reports(stack)):
            assert time.monotonic() < deadline
            time.sleep(0.1)
    finally:
        stopping.set()
        running.join(20)
    said = {k: [r for r in reports(stack) if r.number == k] for k in range(1, 6)}
    # Each report once.
    assert [r.sequence for r in said[1]] == [d.report.sequence for d in reports_of(taken, MODEL)]
    assert {r.kind for r in said[1]} == {ReportKind.FILL}
    assert [r.kind for r in said[2]] == [ReportKind.REJECT]
    assert [(r.kind, r.reason) for r in said[3]] == [(ReportKind.REJECT, "expired")]
    assert {r.kind for r in said[4]} == {ReportKind.FILL}
    assert [(r.kind, r.reason) for r in said[5]] == [(ReportKind.REJECT, "the desk is killed")]
